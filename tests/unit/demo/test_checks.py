"""The demo's own comparison holds for a sound run, and sees each thing that may be wrong with one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from demo import checks
from demo.checks import Verdict
from demo.evidence import Captured, Evidence, Place
from demo_world import SENT, effect, good_run, letter, record, sent

O1, O2, O3, O4, O1_AGAIN, O5, O6 = SENT
Break = Callable[[Evidence], object]


def broken(check: Callable[[Evidence], Verdict], how: Break) -> list[str]:
    run = good_run()
    how(run)
    return check(run).offenders


@pytest.mark.parametrize("check", checks.ALL)
def test_a_sound_run_holds(check: Callable[[Evidence], Verdict]) -> None:
    verdict = check(good_run())
    assert (verdict.offenders, verdict.holds) == ([], True)


def test_what_a_sound_run_is_counted_as() -> None:
    counts = {verdict.name: verdict.counts for verdict in checks.run_all(good_run())}
    assert counts["accounts"] == {"produced": 7, "completed": 4, "dead": 2, "dropped": 1}
    assert counts["effects"] == {"orders": 4, "applied": 4, "ordered_cents": 1_300, "taken_cents": 1_300}
    assert counts["dead letters"] == {"poison": 2, "letters": 3, "replayed": 1}
    assert counts["results"] == {"results": 5, "orders": 4, "repeated": 1}
    assert counts["repeats"] == {"replay": 1, "retry": 1, "worker_crash": 1}
    assert counts["order"] == {"customers": 2, "compared": 3, "replayed": 1}
    assert counts["duplicates"] == {"sent_twice": 1}


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (lambda run: run.records.pop(3), "o4: no record at 0/3"),
        (lambda run: run.sent.pop(3), "0/3: nobody sent this record"),
        (lambda run: run.sent.append(O4), "o4: two lines of the manifest claim 0/3"),
        (lambda run: run.records.__setitem__(3, record(sent("o9", "order", "anna", 3))), "has id 'o9'"),
        (lambda run: setattr(run.records[3], "key", b"else"), "key b'else'"),
        (lambda run: setattr(run, "acknowledged", 8), "orders counted 8 answers, its manifest has 7"),
    ],
)
def test_a_stream_that_is_not_what_was_sent_is_seen(how: Break, seen: str) -> None:
    assert seen in " ".join(broken(checks.stream_is_as_sent, how))


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (lambda run: run.effects.pop(2), "o4: neither applied nor a dead letter"),
        (lambda run: run.letters.pop(0), "o2: neither applied nor a dead letter"),
        (lambda run: run.effects.append(effect(8, sent("o9", "order", "anna", 9))), "o9: has an end but no record"),
    ],
)
def test_a_record_that_is_not_accounted_for_is_seen(how: Break, seen: str) -> None:
    assert broken(checks.every_record_is_accounted_for, how) == [seen]


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (lambda run: run.effects.pop(2), ["o4: never applied"]),
        (
            lambda run: run.effects.append(effect(8, O4)),
            ["o4: applied 2 times", "/shop/orders#o4: key applied 2 times"],
        ),
        (lambda run: run.effects.append(effect(8, O2)), ["o2: applied, but no such order was sent"]),
        (lambda run: run.effects.__setitem__(2, effect(3, O4, amount_cents=1)), ["o4: 1 taken, 400 ordered"]),
        (lambda run: run.effects.__setitem__(2, effect(3, O4, customer_id="x")), ["o4: 400 taken, 400 ordered"]),
        (lambda run: run.effects.__setitem__(2, effect(3, O4, key="k")), ["o4: delivered under the key 'k'"]),
    ],
)
def test_an_order_lost_doubled_or_changed_is_seen(how: Break, seen: list[str]) -> None:
    assert broken(checks.every_order_is_applied_once, how) == seen


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (lambda run: run.letters.pop(0), "o2: poison without a dead letter"),
        (lambda run: run.effects.append(effect(8, O6)), "o6: poison, and delivered"),
        (lambda run: run.letters.append(letter(O4, Place(0, 3))), "o4: a dead letter of kind order"),
        (lambda run: run.effects.pop(), "o3: refused by payments, and no replay of it was applied"),
        (lambda run: run.letters.pop(1), "o3: refused, yet no dead letter"),
        (lambda run: run.letters.append(letter(sent("o9", "order", "x", 9), Place(0, 3))), "kind unknown"),
    ],
)
def test_dead_letters_that_are_not_exactly_the_poison_are_seen(how: Break, seen: str) -> None:
    (offender,) = broken(checks.only_poison_is_dead, how)
    assert seen in offender


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("key", b"other"),
        ("key", None),
        ("value", b"\0value of o"),
        ("timestamp", 1_002),
        ("headers", (("ce_source", b"/shop/orders"), ("ce_id", b"o2"), ("empty", None))),
        ("headers", (("ce_id", b"o2"), ("ce_source", b"/shop/orders"), ("empty", b""))),
        ("partition", Place(1, 0)),
    ],
)
def test_a_dead_letter_that_is_not_byte_equal_is_seen(part: str, value: object) -> None:
    def change(run: Evidence) -> None:
        changed = run.letters[0]
        if part == "headers":
            changed.headers = (*value, *changed.headers[3:])  # type: ignore[misc]
        else:
            setattr(changed, {"timestamp": "timestamp_ms", "partition": "place"}.get(part, part), value)

    (offender,) = broken(checks.letters_are_lossless, change)
    assert offender.endswith(f"of o2: differs in {part}")


def test_a_dead_letter_from_nowhere_is_seen() -> None:
    def change(run: Evidence) -> None:
        run.letters[0].headers = (("ce_id", b"o2"),)

    assert broken(checks.letters_are_lossless, change) == ["dead letter 0/0: its origin '' is no record"]


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (lambda run: run.results.pop(1), "o4: no result"),
        (
            lambda run: run.results.append(Captured(Place(0, 9), "o2", 0)),
            "o2: a result at 0/9, but nothing was applied",
        ),
        (lambda run: run.results.__setitem__(1, Captured(Place(0, 1), "o4", 5)), "o4: 5 told, 400 taken"),
    ],
)
def test_a_result_that_is_missing_wrong_or_of_nothing_is_seen(how: Break, seen: str) -> None:
    assert broken(checks.every_effect_has_its_result, how) == [seen]


@pytest.mark.parametrize("kind", ["applied", "repeat", "refused"])
def test_a_repeat_that_was_not_announced_is_seen(kind: str) -> None:
    again = effect(8, O4, kind=kind)
    offenders = broken(checks.repeats_are_announced, lambda run: run.effects.append(again))
    assert offenders == ["o4: delivered again as if for the first time, line 8"]


def test_a_stale_worker_that_was_turned_away_is_no_repeat() -> None:
    assert broken(checks.repeats_are_announced, lambda run: run.effects.append(effect(8, O4, kind="fenced"))) == []


def test_orders_of_one_customer_out_of_order_are_seen() -> None:
    def swap(run: Evidence) -> None:
        run.effects[0], run.effects[2] = run.effects[2], run.effects[0]

    assert broken(checks.customers_kept_their_order, swap) == ["o1: applied after o4, which anna sent later"]


def test_a_late_order_is_excused_by_its_replay_only() -> None:
    def forget_the_replay(run: Evidence) -> None:
        run.effects[6] = effect(7, O3)

    assert broken(checks.customers_kept_their_order, forget_the_replay) == [
        "o3: applied after o4, which anna sent later"
    ]


def test_a_second_sending_that_reached_payments_is_seen() -> None:
    second = effect(8, O1_AGAIN, kind="repeat")
    offenders = broken(checks.second_sendings_went_nowhere, lambda run: run.effects.append(second))
    assert offenders == ["o1: delivered from its second sending orders.placed/0/4"]


def test_a_second_sending_without_a_first_is_seen() -> None:
    offenders = broken(checks.second_sendings_went_nowhere, lambda run: run.sent.pop(0))
    assert offenders == ["o1: sent a second time, never a first"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("balanced", False),
        ("drained", False),
        ("produced", 8),
        ("completed", 3),
        ("dead", 3),
        ("duplicate", 0),
        ("unaccounted", 1),
        ("unaccounted", None),
    ],
)
def test_an_audit_that_says_something_else_is_seen(name: str, value: object) -> None:
    (offender,) = broken(checks.audit_says_the_same, lambda run: run.audit.__setitem__(name, value))
    assert offender.startswith(f"{name}: the audit says {value}")


def test_every_check_can_fail_when_everything_is_gone() -> None:
    """Empty hands must not pass: nothing read is nothing compared."""
    nothing = Evidence(topic="orders.placed")
    assert any(not verdict.holds for verdict in checks.run_all(nothing))
