"""Where a replay's letters come from (``base``)."""

from broker_bridge.replay.sources.base import Candidate, LetterSource, Numbered
from broker_bridge.replay.sources.dead_letters import DeadLetterSource
from broker_bridge.replay.sources.file import FileSource
from broker_bridge.replay.sources.opening import open_source
from broker_bridge.replay.sources.topic import SourceRange, TopicSource

__all__ = [
    "Candidate",
    "DeadLetterSource",
    "FileSource",
    "LetterSource",
    "Numbered",
    "SourceRange",
    "TopicSource",
    "open_source",
]
