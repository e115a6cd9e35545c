"""The codec's benchmark: that it runs, covers the golden contracts, and notices when the two do different work. No
speeds: machines differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.codec import Job, main  # noqa: E402 - the path comes first


def test_it_measures_every_golden_vector_and_says_whether_the_goal_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--rounds", "1", "--round-s", "0.001", "--json"])
    found = json.loads(capsys.readouterr().out)
    vectors = {json.loads(file.read_text())["name"] for file in (ROOT / "schemas" / "golden").glob("*.json")}
    for what in ("decode", "encode"):
        assert vectors <= {row["value"] for row in found["rows"] if row["what"] == what}
    assert set(found["means"]) == {"decode", "decode as v2", "encode"}
    assert all(row["ours_us"] > 0 and row["ratio"] > 0 for row in found["rows"])
    assert status == (0 if min(found["means"].values()) >= found["goal"] else 1)


def test_the_table_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rounds", "1", "--round-s", "0.001"])
    lines = capsys.readouterr().out.splitlines()
    assert sum("1000 lines" in line for line in lines) == 3
    assert "(goal: 0.9 ×)" in lines[-1]


def test_different_work_is_noticed() -> None:
    with pytest.raises(AssertionError, match="is not"):
        Job("decode", "a value", lambda: 1, lambda: 2).check()
