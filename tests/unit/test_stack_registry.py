"""The schema registry's programs: the right archive or none, whole or not at all; and whose server answers."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.errors import StackError
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.registry import archive
from broker_bridge.stack.registry.server import RegistryServer, is_ready
from broker_bridge.stack.server import Surroundings

MAVEN = """#!/bin/sh
echo run >> {log}
for word in "$@"; do case "$word" in -Ddest=*) out="${{word#*=}}";; esac; done
cp {archive} "$out"
"""
SILENT = lambda _line: None  # noqa: E731


def packed(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven that brings a small archive, with an empty cache and the archive's hash as the right one."""
    monkeypatch.setenv("BROKER_BRIDGE_CACHE", str(tmp_path / "cache"))
    found = packed(tmp_path / "a.tar.gz", **{archive.RUNNER: b"runner", "lib/one.jar": b"12"})
    monkeypatch.setattr(archive, "SHA256", hashlib.sha256(found.read_bytes()).hexdigest())
    path = tmp_path / "mvn"
    path.write_text(MAVEN.format(log=tmp_path / "runs", archive=found))
    path.chmod(0o755)
    return path


def runs(maven: Path) -> int:
    return len(maven.with_name("runs").read_text().splitlines())


def test_fetched_once_and_then_found(maven: Path) -> None:
    told: list[str] = []
    assert archive.cached_runner() is None
    runner = archive.prepare_runner(maven, progress=told.append)
    assert runner.read_bytes() == b"runner"
    assert (runner.parent / "lib" / "one.jar").read_bytes() == b"12"
    assert archive.prepare_runner(None, progress=told.append) == runner
    assert (runs(maven), len(told)) == (1, 1)
    names = sorted(entry.name for entry in runner.parents[1].iterdir())
    assert names == [".apicurio-3.0.9.lock", "apicurio-3.0.9"], "no scratch is left"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "lib" / "one.jar").write_bytes(b"1"),
        lambda folder: (folder / archive.RUNNER).unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text('{"sha256": "another", "sizes": {}}'),
    ],
    ids=["cut jar", "no runner", "cut manifest", "another archive"],
)
def test_a_spoiled_cache_is_filled_anew(spoil: Any, maven: Path) -> None:
    runner = archive.prepare_runner(maven, progress=SILENT)
    spoil(runner.parent)
    assert archive.cached_runner() is None
    assert archive.prepare_runner(maven, progress=SILENT).read_bytes() == b"runner"
    assert runs(maven) == 2


def test_another_archive_than_the_pinned_one_is_never_unpacked(maven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SHA256", "0" * 64)
    with pytest.raises(StackError, match="hashes to") as caught:
        archive.prepare_runner(maven, progress=SILENT)
    assert "mirror has another file" in caught.value.remedy
    assert not archive.program_folder().exists()


def test_an_archive_that_would_write_elsewhere_is_refused(
    maven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = packed(tmp_path / "a.tar.gz", **{archive.RUNNER: b"runner", "../../escaped": b"x"})
    monkeypatch.setattr(archive, "SHA256", hashlib.sha256(hostile.read_bytes()).hexdigest())
    with pytest.raises(StackError, match="cannot be unpacked"):
        archive.prepare_runner(maven, progress=SILENT)
    assert not list(tmp_path.rglob("escaped"))
    assert not archive.program_folder().exists()


def test_maven_that_fails_is_quoted(maven: Path) -> None:
    maven.write_text("#!/bin/sh\necho '[ERROR] no route to host'; exit 1\n")
    with pytest.raises(StackError, match=r"could not fetch Apicurio Registry: status 1:\n.*no route to host"):
        archive.prepare_runner(maven, progress=SILENT)


def test_what_is_pinned() -> None:
    assert archive.ARTIFACT == "io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all"
    assert len(bytes.fromhex(archive.SHA256)) == 32


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[int]:
    """A server on loopback that answers these paths, and its port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path)).encode()
            self.send_response(200 if self.path in answers else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(30)


@pytest.mark.parametrize(
    ("status", "name", "ours"),
    [("UP", "{}", True), ("UP", "Apicurio Registry", False), ("DOWN", "{}", False), (None, "{}", False)],
)
def test_only_our_own_server_is_taken_for_it(status: str | None, name: str, ours: bool, tmp_path: Path) -> None:
    answers: dict[str, Any] = {} if status is None else {"/health/ready": {"status": status}}
    with answering(answers) as port:
        server = RegistryServer(
            port=port,
            folder=tmp_path / "registry",
            runtime=lambda: (Path("java"), Path("runner.jar")),
            surroundings=Surroundings(tied_to=this_process(), boot_deadline_s=1, on_change=lambda: None),
        )
        answers["/apis/registry/v3/system/info"] = {"name": name.format(server.instance)}
        assert server.answers() is ours
        assert is_ready(port) is (status == "UP")
    assert not server.answers()


def test_it_listens_on_loopback_and_keeps_what_it_has_in_its_folder(tmp_path: Path) -> None:
    server = RegistryServer(
        port=20_000,
        folder=tmp_path / "registry",
        runtime=lambda: (Path("java"), Path("runner.jar")),
        surroundings=Surroundings(tied_to=None, boot_deadline_s=1, on_change=lambda: None),
    )
    command = list(server.command())
    assert command[0] == "java"
    assert "-Xmx192m" in command
    assert "-Dquarkus.http.host=127.0.0.1" in command
    assert f"-Dapicurio.datasource.url=jdbc:h2:file:{tmp_path / 'registry' / 'schemas'};WRITE_DELAY=0" in command
    assert server.url == "http://127.0.0.1:20000/apis/ccompat/v7"
