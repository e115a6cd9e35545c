"""Which letters of a file stand in the dead-letter topic already, and when a claim must be told of a new place.

A letter that is brought back stands at another place than before. Its claim, where one is left, names the old one, and
a letter that its claim does not name counts as superseded: nobody could replay it. So an import moves the claim on to
the new place, if what the claim names is gone, or is an older letter of the same message::

    claim: DEAD, names 0/17     topic: 0/17 was removed     import puts the letter at 0/90 → claim: DEAD, names 0/90
    claim: DEAD, names 0/17     topic: 0/17 holds a later death of the message             → unchanged: superseded
    claim: COMPLETED, or in hand                                                           → unchanged
    no claim (expired, lost, another cluster's Redis)                                      → none is made

Where there is no claim nobody knows whether the message completed meanwhile; the letter's state is *unknown*, and a
replay of it has to be allowed by name (``--allow-expired``), as for every letter that outlived its claim.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from heapq import merge
from itertools import islice
from typing import Final

from broker_bridge.core.claim import NO_FINGERPRINT, ClaimView
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.letters import LetterState, letter_state
from broker_bridge.core.operator_claim import Hand, left_by, produced_fingerprint
from broker_bridge.message import Record

_SIZE: Final = 16
_PART: Final = 50_000


def letter_digest(record: Record) -> bytes:
    """16 bytes: BLAKE2b of partition, timestamp, key, value and headers, length-prefixed. The place in the log is left
    out: two letters are one where every byte of them is."""
    digest = blake2b(digest_size=_SIZE)
    digest.update(record.partition.to_bytes(8, "big") + record.timestamp_ms.to_bytes(8, "big", signed=True))
    _add(digest, record.key)
    _add(digest, record.value)
    for name, value in record.headers:
        _add(digest, name.encode())
        _add(digest, value)
    return digest.digest()


def _add(digest: blake2b, value: bytes | None) -> None:
    digest.update(b"\xff" * 8 if value is None else len(value).to_bytes(8, "big") + value)


class FoundLetters:
    """The letters of a file by their digest, each with its offset in the topic once it was seen or put there.

    24 bytes a letter; what is equal in every byte is one.
    """

    def __init__(self, digests: Iterable[bytes]) -> None:
        self._digests = _sorted(digests)
        self._offsets = array("q", [-1]) * len(self)

    def __len__(self) -> int:
        return len(self._digests) // _SIZE

    def found(self, digest: bytes, offset: int) -> None:
        """The topic holds a letter with this digest at ``offset``; of several the last counts. Others are ignored."""
        at = self._index(digest)
        if at is not None:
            self._offsets[at] = offset

    def offset(self, digest: bytes) -> int | None:
        """Where the letter is in its partition of the topic; None where it is not."""
        at = self._index(digest)
        return None if at is None or self._offsets[at] < 0 else self._offsets[at]

    def _index(self, digest: bytes) -> int | None:
        at = bisect_left(range(len(self)), digest, key=self._at)
        return at if at < len(self) and self._at(at) == digest else None

    def _at(self, index: int) -> bytes:
        return self._digests[index * _SIZE : (index + 1) * _SIZE]


def _sorted(digests: Iterable[bytes]) -> bytes:
    """All in order, each once. Sorted in parts, for a list of a million objects would take five times their bytes."""
    digests = iter(digests)
    parts: list[bytes] = []
    while part := sorted(islice(digests, _PART)):
        parts.append(b"".join(part))
    merged, last = bytearray(), b""
    for digest in merge(*map(_each, parts)):
        if digest != last:
            merged += digest
            last = digest
    return bytes(merged)


def _each(part: bytes) -> Iterator[bytes]:
    return (part[at : at + _SIZE] for at in range(0, len(part), _SIZE))


def may_be_moved(letter: DeadLetter, claim: ClaimView | None) -> bool:
    """Whether the claim may have to name ``letter`` (its place is the one it has now): it is dead and names another
    letter, of this very message, or an import was killed while it moved it."""
    if claim is None or claim.fingerprint not in (NO_FINGERPRINT, produced_fingerprint(letter)):
        return False
    return letter_state(letter, claim) is LetterState.SUPERSEDED or left_by(claim) is Hand.IMPORT


def is_newer(letter: DeadLetter, named: DeadLetter | None) -> bool:
    """Whether a claim that names ``named`` (None: what it named is gone) should name ``letter``."""
    return named is None or _age(named) < _age(letter)


def _age(letter: DeadLetter) -> tuple[int, int]:
    return letter.hops, letter.failure.last_ms
