"""Files that are damaged are named, never read as if they were whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from demo.child import ChildError
from demo.evidence import Place, Stored
from demo.gather import captured, read_effects, read_manifest, schemas_by_id

SCHEMAS = Path(__file__).parents[3] / "schemas"
MANIFEST_LINE = {
    "id": "o-1", "source": "/shop/orders", "kind": "order", "duplicate": False, "key": "c-1", "partition": 1,
    "offset": 7, "schema_version": 1, "amount_cents": 12,
}  # fmt: skip
EFFECT_LINE = {
    "seq": 1, "kind": "applied", "key": "k", "ce_id": "o-1", "order_id": "o-1", "customer_id": "c-1",
    "amount_cents": 12, "currency": "EUR", "attempt": 1, "crashes": 0, "token": 5, "replay_id": None,
    "origin": "t/0/0", "at_ms": 1,
}  # fmt: skip


def written(folder: Path, *lines: object) -> Path:
    path = folder / "lines.ndjson"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_lines_are_read_field_by_field(tmp_path: Path) -> None:
    (line,) = read_manifest(written(tmp_path, MANIFEST_LINE))
    assert (line.id, line.place, line.amount_cents, line.is_poison) == ("o-1", Place(1, 7), 12, False)
    (effect,) = read_effects(written(tmp_path, EFFECT_LINE))
    assert (effect.line, effect.key, effect.origin, effect.is_announced) == (1, "k", "t/0/0", False)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], "line 1 is not JSON"),
        ([EFFECT_LINE, EFFECT_LINE], "line 2 has seq 1"),
        ([{**EFFECT_LINE, "seq": 2}], "line 1 has seq 2"),
        ([{name: value for name, value in EFFECT_LINE.items() if name != "origin"}], "line 1 lacks origin"),
    ],
)
def test_a_damaged_log_is_named(tmp_path: Path, lines: list[Any], said: str) -> None:
    with pytest.raises(ChildError, match=said):
        read_effects(written(tmp_path, *lines))


def golden() -> bytes:
    return bytes.fromhex(json.loads((SCHEMAS / "golden" / "payment-captured-v1.json").read_text())["hex"])


def test_a_result_is_decoded_without_the_bridge() -> None:
    vector = json.loads((SCHEMAS / "golden" / "payment-captured-v1.json").read_text())
    found = captured(Stored(Place(0, 1), 0, None, golden()), schemas_by_id(SCHEMAS))
    assert (found.order_id, found.amount_cents) == (vector["value"]["order_id"], vector["value"]["amount_cents"])


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\0\x63rest", golden()[:9], b"\x01" + golden()[1:]])
def test_a_result_that_does_not_decode_is_named(value: bytes | None) -> None:
    with pytest.raises(ChildError, match="result at 0/1 does not decode"):
        captured(Stored(Place(0, 1), 0, None, value), schemas_by_id(SCHEMAS))
