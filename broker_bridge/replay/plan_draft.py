"""The lines of a plan while it is made: sorted on disk, looked at once more when all is known, then written."""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from broker_bridge.core.newest_version import ReplayOrder
from broker_bridge.core.plan_lines import canonical, item_line, read_item, skipped_line
from broker_bridge.core.replay_plan import COMPLETED, STALE, PlanItem, SkippedLetter
from broker_bridge.replay.edit import Change
from broker_bridge.replay.sorted_lines import SortedLines, lines_between, taking_turns

BLOCK: Final = 100
"""Items of one partition before the next has its turn."""

HasNewer = Callable[[int, int, int], bool]
"""Whether behind this offset of this partition a message of this key (``order_scan.key_number``) was completed."""


class Flag(enum.StrEnum):
    """What is known of an item when it is added, one letter each."""

    STALE = "s"
    """The newest completed version of its record key is higher than its own."""
    FORCED = "f"
    FIXED_BY_UPCASTER = "u"
    DEAD_AGAIN = "d"
    ORDER_UNKNOWN = "n"
    STAYS = "x"
    """It does not go back, and it stands for its message all the same: no older letter goes in its place."""


_COUNTED: Final = {
    Flag.FORCED: "forced",
    Flag.FIXED_BY_UPCASTER: "fixed_by_upcaster",
    Flag.DEAD_AGAIN: "predicted_dead",
    Flag.ORDER_UNKNOWN: "order_unknown",
}

_ITEM, _SKIPPED = "0", "1"
_NO_KEY = "-"


class PlanDraft:
    """Items and skipped letters in any order. ``close`` it.

    A line on disk: kind, origin, place (in hex, so that they sort), key, flags; a tab, the line of the plan; a tab,
    what an edit changes.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lines = SortedLines(folder)
        self._left = SortedLines(folder)

    def close(self) -> None:
        """Give the disk back."""
        self._lines.close()
        self._left.close()

    def add(self, item: PlanItem, *, key: int | None, flags: str, changes: Sequence[Change]) -> None:
        """An item. ``key`` is to be asked about, None where not; ``flags`` are ``Flag`` letters."""
        known = _NO_KEY if key is None else f"{key:016x}"
        head = f"{_place(_ITEM, item)} {known} {flags}\t".encode()
        told = canonical(_diff(item, changes)) if changes else b"\n"
        self._lines.add(b"%b%b\t%b" % (head, item_line(item)[:-1], told))

    def skip(self, letter: SkippedLetter) -> None:
        """A letter that does not go back."""
        self._lines.add(_skipped(letter))

    def write(
        self, spool: BinaryIO, diff: BinaryIO | None, *, order: ReplayOrder, has_newer: HasNewer, counts: Counter[str]
    ) -> str:
        """Write the lines of the plan, and to ``diff`` what edits change; answers the hash of the latter."""
        walk = self._lines.walk()
        digest = hashlib.sha256()
        with TemporaryFile(dir=self._folder) as items:
            stretches, first_skipped = self._decide(walk, items, order, has_newer, counts)
            walks = [lines_between(items, start, end) for start, end in stretches]
            for number, line in enumerate(taking_turns(walks, block=BLOCK)):
                body, _, told = line[:-1].partition(b"\t")
                spool.write(body + b"\n")
                if told:
                    told = b'{"item":%d,%b\n' % (number, told[1:])
                    digest.update(told)
                    if diff is not None:
                        diff.write(told)
        for line in merge(chain(first_skipped, walk), self._left.walk()):
            spool.write(line.split(b"\t")[1])
        return digest.hexdigest()

    def _decide(
        self,
        walk: Iterator[bytes],
        items: BinaryIO,
        order: ReplayOrder,
        has_newer: HasNewer,
        counts: Counter[str],
    ) -> tuple[list[tuple[int, int]], list[bytes]]:
        """Write the items that go back, partition by partition, to ``items``: where each partition is, and the first
        line of a skipped letter, which was taken from the walk."""
        starts: list[int] = []
        partition = -1
        rest: list[bytes] = []
        for line in self._newest_of_each(walk, counts):
            if line[:1] == _SKIPPED.encode():
                rest.append(line)
                break
            head, body, told = line.split(b"\t")
            place, known, flags = head.decode().split(" ")
            is_stale, at, offset = Flag.STALE in flags, int(place[1:9], 16), int(place[9:25], 16)
            is_newer = is_stale or (known != _NO_KEY and has_newer(at, offset, int(known, 16)))
            if is_newer and order is ReplayOrder.HOLD:
                counts["held_back"] += 1
                self._leave(read_item(body), "held_back")
                continue
            counts["to_replay"] += 1
            for flag in flags:
                if flag in _COUNTED:
                    counts[_COUNTED[Flag(flag)]] += 1
            counts["breaks_order"] += is_newer
            if is_stale and order is ReplayOrder.SKIP_STALE:
                item = read_item(body)
                if item.predicted == COMPLETED:
                    counts["predicted_stale"] += 1
                    body = item_line(item._replace(predicted=STALE))[:-1]
            if at != partition:
                partition = at
                starts.append(items.tell())
            items.write(b"%b\t%b" % (body, told))
        ends = [*starts[1:], items.tell()]
        items.flush()
        return list(zip(starts, ends, strict=True)) if starts else [], rest

    def _newest_of_each(self, walk: Iterator[bytes], counts: Counter[str]) -> Iterator[bytes]:
        """The items, of several letters of one message the last written alone, up to the first skipped line. A claim
        names one of them; where it is gone, or completed, none, and the claim would let the first of them through, or
        the claims of a key and of the same key forced each one."""
        held: bytes | None = None
        for line in walk:
            if held is not None and not _stays(held):
                if _is_of_same_message(held, line):
                    counts["superseded"] += 1
                    self._leave(read_item(held.split(b"\t")[1]), "superseded")
                else:
                    yield held
            held = line
            if line[:1] == _SKIPPED.encode():
                break
        if held is not None and not _stays(held):
            yield held

    def _leave(self, item: PlanItem, why: str) -> None:
        left = SkippedLetter(
            item.partition,
            item.offset,
            item.origin_partition,
            item.origin_offset,
            item.claim,
            why,
            item.origin_topic,
        )
        self._left.add(_skipped(left))


def _place(kind: str, one: PlanItem | SkippedLetter) -> str:
    return f"{kind}{one.origin_partition:08x}{one.origin_offset:016x}{one.partition:08x}{one.offset:016x}"


_ORIGIN_END: Final = 25
"""Where the origin ends in a ``_place``."""


def _stays(line: bytes) -> bool:
    return line[:1] == _ITEM.encode() and Flag.STAYS.encode() in line.split(b"\t", 1)[0]


def _is_of_same_message(line: bytes, other: bytes) -> bool:
    """Whether two lines that follow each other are items of one message: of one origin, and of one key (as produced,
    where an earlier plan forced one of them) or one payload. Where neither is so, the topic was made anew between."""
    if line[:_ORIGIN_END] != other[:_ORIGIN_END]:
        return False
    one, two = read_item(line.split(b"\t")[1]), read_item(other.split(b"\t")[1])
    if one.origin_topic != two.origin_topic:
        return False
    return one.claim == two.claim or one.payload == two.payload or bool(one.forces and one.forces == two.forces)


def _skipped(letter: SkippedLetter) -> bytes:
    return _place(_SKIPPED, letter).encode() + b"\t" + skipped_line(letter)


def _diff(item: PlanItem, changes: Sequence[Change]) -> dict[str, object]:
    return {
        "partition": item.partition,
        "offset": item.offset,
        "origin": f"{item.origin_partition}/{item.origin_offset}",
        "changes": [change._asdict() for change in changes],
    }
