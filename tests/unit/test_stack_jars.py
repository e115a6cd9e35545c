"""The cache of Kafka's jars: whole or not at all, and safe when two processes fill it at once.

`mvn` is a small program here that writes two files; the integration tests use the real one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker_bridge.errors import StackError
from broker_bridge.stack.kafka.jars import cache_root, cached_jars, jar_folder, pom_bytes, prepare_jars

MAVEN = """#!/bin/sh
echo run >> {log}
for word in "$@"; do case "$word" in -DoutputDirectory=*) out="${{word#*=}}";; esac; done
mkdir -p "$out" && printf 1234 > "$out/b.jar" && printf 12 > "$out/a.jar"
sleep 0.5
"""
SILENT = lambda _line: None  # noqa: E731


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BROKER_BRIDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def maven(tmp_path: Path) -> Path:
    path = tmp_path / "mvn"
    path.write_text(MAVEN.format(log=tmp_path / "runs"))
    path.chmod(0o755)
    return path


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def test_the_cache_is_where_it_was_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert jar_folder() == cache / "kafka-4.4.0"
    monkeypatch.delenv("BROKER_BRIDGE_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_root() == Path("/home/someone/.cache/broker_bridge")


def test_fetched_once_and_then_found(cache: Path, maven: Path, tmp_path: Path) -> None:
    told: list[str] = []
    assert cached_jars() is None
    jars = prepare_jars(maven, progress=told.append)
    assert [jar.name for jar in jars] == ["a.jar", "b.jar"]
    assert len(told) == 1
    assert prepare_jars(None, progress=told.append) == jars
    assert runs(tmp_path) == 1
    assert sorted(entry.name for entry in cache.iterdir()) == [".kafka-4.4.0.lock", "kafka-4.4.0"], "no scratch is left"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "a.jar").write_text("1"),
        lambda folder: (folder / "b.jar").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"pom_sha256": "another", "sizes": {"a.jar": 2}}'),
    ],
    ids=["cut jar", "missing jar", "cut manifest", "odd manifest", "no manifest", "another pom"],
)
def test_a_spoiled_cache_is_filled_anew(spoil: object, cache: Path, maven: Path, tmp_path: Path) -> None:
    prepare_jars(maven, progress=SILENT)
    assert callable(spoil)
    spoil(jar_folder())
    assert cached_jars() is None
    assert len(prepare_jars(maven, progress=SILENT)) == 2
    assert runs(tmp_path) == 2


def test_two_processes_at_once_fetch_once(cache: Path, maven: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from broker_bridge.stack.kafka.jars import prepare_jars; "
        "print(len(prepare_jars(Path(sys.argv[1]), progress=print)))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(maven)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [one.communicate(timeout=60)[0].splitlines()[-1] for one in both]
    assert said == ["2", "2"]
    assert runs(tmp_path) == 1


def test_maven_that_fails_is_quoted(cache: Path, tmp_path: Path) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] no route to host'; exit 1\n")
    maven.chmod(0o755)
    with pytest.raises(StackError, match="no route to host") as caught:
        prepare_jars(maven, progress=SILENT)
    assert "settings.xml" in caught.value.remedy
    assert not jar_folder().exists()


def test_a_cache_that_cannot_be_written(tmp_path: Path, maven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BROKER_BRIDGE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StackError, match="cache cannot be written") as caught:
        prepare_jars(maven, progress=SILENT)
    assert "BROKER_BRIDGE_CACHE" in caught.value.remedy


def test_the_pom_is_shipped_and_pins_everything() -> None:
    pom = pom_bytes().decode()
    assert "<artifactId>kafka_2.13</artifactId>\n      <version>4.4.0</version>" in pom
    assert "<artifactId>slf4j-simple</artifactId>" in pom
    assert "[" not in pom.split("-->", 1)[1], "no version ranges"
