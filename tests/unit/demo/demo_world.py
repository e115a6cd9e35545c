"""A small run in which everything went as it should: the checks' tests break it in one place each."""

from __future__ import annotations

from demo.evidence import Captured, Effect, Evidence, Place, Sent, Stored

TOPIC = "orders.placed"
SOURCE = "/shop/orders"
O4_APPLIED_AT = 2


def record(line: Sent) -> Stored:
    headers = (("ce_id", line.id.encode()), ("ce_source", SOURCE.encode()), ("empty", None))
    return Stored(line.place, 1_000 + line.place.offset, line.key.encode(), b"\0value of " + line.id.encode(), headers)


def letter(line: Sent, place: Place) -> Stored:
    was = record(line)
    added = (("bridge-origin", f"{TOPIC}/{line.place}".encode()), ("bridge-error-code", b"avro_malformed"))
    return Stored(place, was.timestamp_ms, was.key, was.value, (*was.headers, *added))


def effect(number: int, line: Sent, **changed: object) -> Effect:
    key, origin = f"{SOURCE}#{line.id}", f"{TOPIC}/{line.place}"
    made = Effect(number, "applied", key, line.id, line.key, line.amount_cents, 1, 0, None, origin)
    return made._replace(**changed)  # type: ignore[arg-type]


def sent(event_id: str, kind: str, key: str, offset: int, *, duplicate: bool = False) -> Sent:
    amount = 0 if kind.startswith("poison") else 100 * int(event_id[1:])
    return Sent(event_id, SOURCE, kind, duplicate, key, Place(0, offset), 1, amount)


SENT = [
    sent("o1", "order", "anna", 0),
    sent("o2", "poison-bytes", "bert", 1),
    sent("o3", "rejected", "anna", 2),
    sent("o4", "order", "anna", 3),
    sent("o1", "order", "anna", 4, duplicate=True),
    sent("o5", "order", "bert", 5),
    sent("o6", "poison-schema-id", "cleo", 6),
]


def good_run() -> Evidence:
    """o3 was refused, died and was replayed; o5 was delivered three times, by a retry and by a second worker."""
    o1, o2, o3, o4, _, o5, o6 = SENT
    return Evidence(
        topic=TOPIC,
        acknowledged=len(SENT),
        sent=list(SENT),
        records=[record(line) for line in SENT],
        letters=[letter(o2, Place(0, 0)), letter(o3, Place(0, 1)), letter(o6, Place(0, 2))],
        effects=[
            effect(1, o1),
            effect(2, o3, kind="refused"),
            effect(3, o4),
            effect(4, o5),
            effect(5, o5, kind="repeat", attempt=2),
            effect(6, o5, kind="repeat", crashes=1),
            effect(7, o3, replay_id="rp-1"),
        ],
        results=[Captured(Place(0, n), line.id, line.amount_cents) for n, line in enumerate((o1, o4, o5, o5, o3))],
        audit={
            "balanced": True,
            "drained": True,
            "produced": 7,
            "completed": 4,
            "dead": 2,
            "duplicate": 1,
            "unaccounted": 0,
        },
    )
