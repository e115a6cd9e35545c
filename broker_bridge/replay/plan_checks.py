"""What is looked at before a plan sends anything: is it this route's, are its topics there, do they still hold it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

from broker_bridge.core.replay_plan import FILE
from broker_bridge.errors import PlanRefusedError, TopicMissingError
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.sources.base import Numbered
from broker_bridge.transport.base import LogReader

_OTHER_ROUTE: Final = "a replay goes to the group's own redrive lane and nowhere else"


def check_route(plan: Plan, route: ReplayRoute) -> None:
    """Raise ``PlanRefusedError`` where the plan was made for something else than this route as it is configured."""
    header = plan.header
    compared = [
        ("group", header.group, route.group),
        ("source topic", header.topic, route.topic),
        ("dead-letter topic", header.dead_letter_topic, route.dead_letter_topic),
        ("destination", header.destination, route.redrive_topic),
    ]
    for what, planned, ours in compared:
        if planned != ours:
            raise PlanRefusedError(
                f"the plan's {what} is {planned!r}, route {route.name!r} has {ours!r}; {_OTHER_ROUTE}",
                where=str(plan.path),
                remedy=f"run it with the configuration it was made with (route {header.route!r})",
            )


def check_age(plan: Plan, route: ReplayRoute, *, now_ms: int) -> None:
    """Raise ``PlanRefusedError`` where items go back without a claim, and the plan is so old that claims of them may
    have come and gone since, those of an earlier run of it too: no claim then no longer means that nobody took the
    message (I19). What ``allow_expired`` says was said of the letters as they were when the plan was made."""
    header = plan.header
    if not (header.is_foreign or header.force or header.allow_expired):
        return
    try:
        made_ms = datetime.fromisoformat(header.created_at).timestamp() * 1000
    except (ValueError, OverflowError):
        made_ms = 0.0
    if now_ms - made_ms > route.claim_ttl_ms:
        raise PlanRefusedError(
            f"it was made at {header.created_at}, longer ago than claims are remembered: whether its messages were "
            "handled since, by this plan or otherwise, cannot be told",
            where=str(plan.path),
            remedy="make a new plan",
        )


async def check_topics(plan: Plan, route: ReplayRoute, reader: LogReader) -> None:
    """Raise ``PlanRefusedError`` where a topic of the plan is gone, or the lane is too small for it."""
    topics = {route.topic, route.dead_letter_topic, route.redrive_topic}
    if plan.header.source["kind"] != FILE:
        topics.add(str(plan.header.source["topic"]))
    try:
        offsets = await reader.offsets(sorted(topics))
    except TopicMissingError as error:
        raise PlanRefusedError(
            f"a topic of the plan is gone: {error.detail}",
            where=error.where,
            remedy="what the plan speaks of went with it; where the topic was made anew, make a new plan",
        ) from error
    count = Counter(tp.topic for tp in offsets)
    if count[route.redrive_topic] < count[route.dead_letter_topic]:
        raise PlanRefusedError(
            "the redrive lane has too few partitions",
            where=route.redrive_topic,
            remedy="broker-bridge worker topics --create makes the lanes alike",
        )


def ends_of(plan: Plan) -> list[Numbered]:
    """The first and the last letter of each partition of the plan's source, in the plan's order: where a topic was cut
    short by retention or made anew, it shows there. None where the source is a file, which has a hash."""
    if plan.header.source["kind"] == FILE:
        return []
    return [Numbered(*one) for one in plan.ends()]
