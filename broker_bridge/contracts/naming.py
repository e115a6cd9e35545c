"""Which subject a topic's records have their schema under.

Source: the subject name strategies of Confluent's serializers (``TopicNameStrategy``, ``RecordNameStrategy``,
``TopicRecordNameStrategy``).
"""

from __future__ import annotations

from enum import StrEnum


class SubjectNaming(StrEnum):
    """``record``: ``shop.OrderPlaced``. ``topic``: ``orders.placed-value``, one contract a topic.
    ``topic-record``: ``orders.placed-shop.OrderPlaced``, several contracts a topic, versions of their own in each."""

    RECORD = "record"
    TOPIC = "topic"
    TOPIC_RECORD = "topic-record"

    def subject(self, topic: str, record_name: str) -> str:
        """The subject of that record in the values of that topic."""
        match self:
            case SubjectNaming.RECORD:
                return record_name
            case SubjectNaming.TOPIC:
                return f"{topic}-value"
            case SubjectNaming.TOPIC_RECORD:
                return f"{topic}-{record_name}"
