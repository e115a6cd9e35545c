"""Was the work really done? What a contender published is held against what it had to publish, byte by byte.

A contender that loses, doubles or garbles a single result fails the whole benchmark: speed of wrong work is no figure.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.scenario import WrongWorkError


def check_results(name: str, written: Iterable[bytes], expected: frozenset[int], *, claimed: int | None = None) -> int:
    """How many results there are. Raises ``WrongWorkError``.

    ``expected`` are the hashes of all results. ``claimed`` is given for a contender that was stopped before the end:
    so many it says it published, and so many there must be, each once; without it all must be there.
    """
    return _check(name, map(hash, written), expected, claimed)


def check_numbers(name: str, found: Iterable[int], expected: Iterable[int]) -> int:
    """Each expected number exactly once, and no other; how many there are. Raises ``WrongWorkError``."""
    return _check(name, found, frozenset(expected), None)


def check_keys(name: str, found: Iterable[str], expected: Iterable[str]) -> int:
    """Each expected key exactly once, and no other; how many there are. Raises ``WrongWorkError``."""
    return check_results(
        name, (key.encode() for key in found), frozenset(hash(key.encode()) for key in expected), claimed=None
    )


def _check(name: str, written: Iterable[int], expected: frozenset[int], claimed: int | None) -> int:
    seen: set[int] = set()
    count = strange = 0
    for found in written:
        count += 1
        strange += found not in expected
        seen.add(found)
    wanted = len(expected) if claimed is None else claimed
    doubled = count - len(seen)
    lost = wanted - (len(seen) - strange)
    faults = [
        f"{number:,} {what}"
        for number, what in ((lost, "lost"), (doubled, "doubled"), (strange, "that nobody ordered"))
        if number
    ]
    if faults:
        raise WrongWorkError(f"{name}: of {wanted:,} results {', '.join(faults)}")
    return count
