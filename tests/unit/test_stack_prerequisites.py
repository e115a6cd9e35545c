"""Programs the stack needs: what is said when one is missing or too old, and how installing keeps services down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker_bridge.errors import StackError, ToolMissingError
from broker_bridge.stack import prerequisites
from broker_bridge.stack.prerequisites import check_java, find_tools, install_packages, missing_tools, no_service_starts


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


JAVA_17 = """echo 'openjdk version "17.0.15" 2025-04-15' >&2"""
SILENT = lambda _line: None  # noqa: E731


def test_everything_missing_is_named_with_the_command_that_installs_it(only: Path) -> None:
    with pytest.raises(ToolMissingError) as caught:
        find_tools(need_maven=True, install=False, progress=SILENT)
    for word in ("java", "mvn", "redis-server"):
        assert word in caught.value.detail
    assert "apt-get install -y openjdk-17-jre-headless redis-server maven" in caught.value.remedy


def test_maven_is_not_asked_for_when_the_jars_are_there(only: Path) -> None:
    program(only, "java", JAVA_17)
    redis = program(only, "redis-server", "")
    assert missing_tools(need_maven=True) == ["mvn"]
    assert missing_tools(need_maven=False) == []
    tools = find_tools(need_maven=False, install=False, progress=SILENT)
    assert (tools.redis_server, tools.mvn) == (redis, None)


def test_java_home_comes_first(only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(only, "java", """echo 'java version "1.8.0_402"' >&2""")
    program(only, "redis-server", "")
    with pytest.raises(ToolMissingError, match="this is Java 8"):
        find_tools(need_maven=False, install=False, progress=SILENT)
    (tmp_path / "jdk").mkdir()
    newer = program(tmp_path / "jdk" / "bin", "java", JAVA_17)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_tools(need_maven=False, install=False, progress=SILENT).java == newer


@pytest.mark.parametrize(
    ("script", "major"),
    [(JAVA_17, 17), ("""echo 'openjdk version "21" 2023-09-19'""", 21), ("""echo 'java version "25-ea"' >&2""", 25)],
)
def test_versions_that_run_kafka(script: str, major: int, tmp_path: Path) -> None:
    assert check_java(program(tmp_path, "java", script)) == major


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("""echo 'openjdk version "11.0.22"' >&2""", "needs Java 17 or later, this is Java 11"),
        ("echo hello", "names a version: 'hello'"),
        ("exit 1", "names a version"),
    ],
)
def test_java_that_does_not_run_kafka(script: str, told: str, tmp_path: Path) -> None:
    java = program(tmp_path, "java", script)
    with pytest.raises(ToolMissingError, match=told) as caught:
        check_java(java)
    assert caught.value.where == str(java)
    assert "openjdk-17-jre-headless" in caught.value.remedy


def test_java_that_cannot_be_run(tmp_path: Path) -> None:
    broken = tmp_path / "java"
    broken.write_text("not a program")
    with pytest.raises(ToolMissingError, match="does not run"):
        check_java(broken)


def test_services_stay_down_while_packages_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(prerequisites, "POLICY_RC_D", policy)
    with no_service_starts():
        assert os.waitstatus_to_exitcode(os.system(str(policy))) == 101
    assert not policy.exists()


def test_the_owners_policy_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = program(tmp_path, "policy-rc.d", "exit 0")
    monkeypatch.setattr(prerequisites, "POLICY_RC_D", policy)
    with no_service_starts():
        assert "exit 0" in policy.read_text()
    assert policy.exists()


def test_installing_asks_apt_and_nothing_starts(only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, calls = tmp_path / "policy-rc.d", tmp_path / "calls"
    monkeypatch.setattr(prerequisites, "POLICY_RC_D", policy)
    program(only, "apt-get", f'[ -x {policy} ] || exit 9\necho "$DEBIAN_FRONTEND $@" >> {calls}')
    told: list[str] = []
    install_packages(["maven"], progress=told.append)
    update, install = calls.read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith(" update")
    assert install.endswith(" install --no-install-recommends maven")
    assert told == ["installing maven (apt-get)"]
    assert not policy.exists()


def test_apt_that_fails_is_quoted(only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "POLICY_RC_D", tmp_path / "policy-rc.d")
    program(only, "apt-get", "echo 'E: Unable to locate package maven' >&2; exit 100")
    with pytest.raises(StackError, match="Unable to locate package maven"):
        install_packages(["maven"], progress=SILENT)
    assert not (tmp_path / "policy-rc.d").exists()
