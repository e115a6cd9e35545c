"""Options that say how fast a replay goes, and how carefully."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from broker_bridge.core.duration import parse_duration_ms
from broker_bridge.core.replay_pace import PaceLimits, canary_of
from broker_bridge.errors import UsageError

if TYPE_CHECKING:
    from broker_bridge.replay.lane_watch import TargetIsAway
    from broker_bridge.replay.plan_file import Plan

Command = TypeVar("Command", bound=Callable[..., Any])

AUTO: Final = "auto"
UNLIMITED: Final = "unlimited"
MAX_IN_LANE: Final = 1_000
_PAGE_BYTES: Final = 4 << 20
_PAGE_S: Final = 2.0


def pacing_options(command: Command) -> Command:
    """The options of ``limits_of``: the command receives them by name."""
    options = [
        click.option(
            "--rate",
            default=AUTO,
            show_default=True,
            metavar="RATE",
            help='Records a second; "auto": as the group takes them, at most the plan\'s rate; "unlimited".',
        ),
        click.option(
            "--max-in-lane",
            type=click.IntRange(min=1),
            metavar="N",
            help=f"How many records may wait for the group.  [default: {MAX_IN_LANE} with --rate auto, else any]",
        ),
        click.option(
            "--canary",
            default="1%",
            show_default=True,
            metavar="SHARE",
            help='How many go first and are waited for: "5", "1%" (100 at most; none of fewer than 10 items), "none".',
        ),
        click.option(
            "--canary-failures",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            metavar="N",
            help="How many of the canary may die again.",
        ),
        click.option(
            "--canary-timeout",
            default="10m",
            show_default=True,
            metavar="DURATION",
            help="How long to wait for the canary.",
        ),
        click.option(
            "--max-dead-again",
            default="10%",
            show_default=True,
            metavar="SHARE",
            help="Stop where more than this share of what was sent died again (and at least 20).",
        ),
        click.option(
            "--worker-url", metavar="URL", help="A worker's health address: stand still while its breaker is open."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def limits_of(given: dict[str, Any], plan: Plan) -> PaceLimits:
    """The limits from the options of ``pacing_options``. Raises ``UsageError``."""
    rate, max_in_lane = _rate(given["rate"]), given["max_in_lane"]
    if given["rate"] == AUTO:
        rate = plan.header.rate_per_s or None
        max_in_lane = max_in_lane or MAX_IN_LANE
    try:
        canary = canary_of(given["canary"], plan.end.items)
    except ValueError as error:
        raise UsageError(f"--canary {given['canary']!r} {error}") from error
    try:
        canary_timeout_ms = parse_duration_ms(given["canary_timeout"])
    except ValueError as error:
        raise UsageError(f"--canary-timeout {given['canary_timeout']!r} {error}") from error
    return PaceLimits(
        rate_per_s=rate,
        max_in_lane=max_in_lane,
        canary=canary,
        canary_failures=given["canary_failures"],
        canary_timeout_ms=canary_timeout_ms,
        died_share=_share(given["max_dead_again"]),
    )


def _rate(text: str) -> float | None:
    if text in (AUTO, UNLIMITED):
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate < 1e9:
        raise UsageError(f'--rate {text!r} is neither a number above 0, nor "{AUTO}", nor "{UNLIMITED}"')
    return rate


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%"))
    except ValueError:
        share = -1
    if not text.endswith("%") or not 0 <= share <= 100:
        raise UsageError(f'--max-dead-again {text!r} is not a share such as "10%"')
    return share / 100


def away_by(url: str | None, route: str) -> TargetIsAway | None:
    """Asks a worker whether its target is away; None without an address. A worker that does not answer is away too."""
    if url is None:
        return None
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--worker-url {url!r} is not an http address", remedy="write http://host:port")
    page = url.rstrip("/") + "/routes"

    async def is_away() -> bool:
        try:
            body = await asyncio.to_thread(_get, page)
            return any(one.get("breaker") == "open" for one in _of_route(json.loads(body), route))
        except (urllib.error.URLError, OSError, ValueError):
            return True

    return is_away


def _get(page: str) -> bytes:
    with urllib.request.urlopen(page, timeout=_PAGE_S) as answer:  # noqa: S310  the scheme was looked at
        found: bytes = answer.read(_PAGE_BYTES)
    return found


def _of_route(found: object, route: str) -> list[dict[str, Any]]:
    """What a worker, or each process of several, says of the route."""
    if not isinstance(found, dict):
        return []
    here = found.get(route)
    if isinstance(here, dict) and "breaker" in here:
        return [here]
    return [one for part in found.values() for one in _of_route(part, route)]
