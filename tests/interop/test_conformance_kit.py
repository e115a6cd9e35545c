"""The examples' own codecs, in Go and Rust, before the conformance kit; and vectors that are what they write."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from broker_bridge.cli.schemas import group
from broker_bridge.contracts.conformance import own_kit
from broker_bridge.contracts.conformance_program import Program

SCHEMAS = Path(__file__).parents[2] / "schemas"
LANGUAGES = {"go": "orders", "rust": "payments_kafka"}
FREE = {"kit/collections-many", "kit/numbers-not-a-number"}
"""Avro leaves open in which order a map's entries are written, and IEEE 754 has many numbers that are none."""


def conformance(program: Path) -> tuple[int, dict[str, Any]]:
    arguments = ["conformance", "--dir", str(SCHEMAS), "--json", "--", str(program), "conformance"]
    done = CliRunner().invoke(group, arguments, standalone_mode=False, catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return int(done.return_value), found


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What writes the vectors."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("write_conformance_vectors")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_examples_codec_passes(language: str, request: pytest.FixtureRequest) -> None:
    status, found = conformance(request.getfixturevalue(LANGUAGES[language]))
    assert [one for one in found["checks"] if one["outcome"] != "ok"] == []
    assert (status, found["ok"], found["stray_lines"]) == (0, True, 0)
    assert len(found["checks"]) > 2_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_vectors_are_what_the_language_writes(
    language: str, request: pytest.FixtureRequest, writer: ModuleType
) -> None:
    vectors = own_kit().vectors
    program = Program([str(request.getfixturevalue(LANGUAGES[language])), "conformance"], timeout_s=60)
    written = writer.written_by(program, vectors)
    stale = [one.name for one in vectors if one.written[language][5:] != written[one.name] and one.name not in FREE]
    assert stale == [], "run tests/interop/write_conformance_vectors.py"


def test_the_vectors_are_what_python_writes_and_the_file_is_as_its_writer_leaves_it(writer: ModuleType) -> None:
    vectors = own_kit().vectors
    written = writer.written_by_python(vectors)
    assert [one.name for one in vectors if one.written["python"][5:] != written[one.name]] == []
    text = writer.FILE.read_text(encoding="utf-8")
    assert writer.as_text(json.loads(text)) == text
