"""The programs a native stack needs: found, checked, and on Debian as root installed on request."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker_bridge.errors import StackError, ToolMissingError

Progress = Callable[[str], None]

OLDEST_JAVA = 17
POLICY_RC_D = Path("/usr/sbin/policy-rc.d")
INSTALL_DEADLINE_S = 900
PACKAGES = {"java": "openjdk-17-jre-headless", "mvn": "maven", "redis-server": "redis-server"}
PURPOSE = {"java": "runs Kafka", "mvn": "fetches Kafka's jars once", "redis-server": "is the idempotency store"}


@dataclass(frozen=True)
class Tools:
    """Where the needed programs are; `mvn` is None when the jars are already in the cache."""

    java: Path
    redis_server: Path
    mvn: Path | None


def find_tools(*, need_maven: bool, install: bool, progress: Progress) -> Tools:
    """The programs, installing what is missing if asked to. Raises ToolMissingError and StackError."""
    needed = ["java", "redis-server", *(["mvn"] if need_maven else [])]
    missing = [tool for tool in needed if locate(tool) is None]
    if missing and install and can_install():
        install_packages([PACKAGES[tool] for tool in missing], progress=progress)
        missing = [tool for tool in needed if locate(tool) is None]
    if missing:
        raise tools_missing(missing)
    java = existing("java")
    check_java(java)
    return Tools(java=java, redis_server=existing("redis-server"), mvn=existing("mvn") if need_maven else None)


def missing_tools(*, need_maven: bool) -> list[str]:
    """The names of the programs that are not there."""
    return [tool for tool in PACKAGES if (need_maven or tool != "mvn") and locate(tool) is None]


def locate(tool: str) -> Path | None:
    """The program on PATH; for Java, `JAVA_HOME` comes first as in Kafka's own scripts."""
    java_home = os.environ.get("JAVA_HOME")
    if tool == "java" and java_home and (candidate := Path(java_home, "bin", "java")).is_file():
        return candidate
    found = shutil.which(tool)
    return Path(found) if found else None


def existing(tool: str) -> Path:
    found = locate(tool)
    if found is None:
        raise tools_missing([tool])
    return found


def tools_missing(tools: list[str]) -> ToolMissingError:
    what = ", ".join(f"{tool} ({PURPOSE[tool]})" for tool in tools)
    packages = " ".join(PACKAGES[tool] for tool in tools)
    sudo = "" if os.geteuid() == 0 else "sudo "
    return ToolMissingError(
        f"not found on PATH: {what}",
        remedy=f"install it: {sudo}apt-get update && {sudo}apt-get install -y {packages}"
        + ("  (or let it be done: broker-bridge stack up --install)" if can_install() else ""),
    )


def check_java(java: Path) -> int:
    """The major version of this Java; raises ToolMissingError when Kafka cannot run on it."""
    try:
        answer = subprocess.run(  # noqa: S603 - the program just located
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolMissingError(f"java does not run: {error}", where=str(java), remedy=java_remedy()) from error
    said = answer.stderr + answer.stdout
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    if match is None:
        detail = f"java -version answered nothing that names a version: {said.strip()[:200]!r}"
        raise ToolMissingError(detail, where=str(java), remedy=java_remedy())
    major = int(match.group(1))
    if major < OLDEST_JAVA:
        detail = f"Kafka needs Java {OLDEST_JAVA} or later, this is Java {major}"
        raise ToolMissingError(detail, where=str(java), remedy=java_remedy())
    return major


def java_remedy() -> str:
    return f"install {PACKAGES['java']} or a later one, and point JAVA_HOME at it if PATH finds an older one first"


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_packages(packages: list[str], *, progress: Progress) -> None:
    """`apt-get install` without questions and without starting a service. Raises StackError."""
    progress(f"installing {', '.join(packages)} (apt-get)")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    with no_service_starts():
        for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", *packages]):
            try:
                done = subprocess.run(  # noqa: S603 - fixed words and package names from the table above
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_DEADLINE_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                detail = f"{' '.join(command)} took longer than {INSTALL_DEADLINE_S} s"
                raise StackError(detail, remedy="run it by hand and see what it waits for") from error
            if done.returncode != 0:
                said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
                detail = f"{' '.join(command)} failed with status {done.returncode}:\n{said}"
                raise StackError(detail, remedy="run it by hand, then run: broker-bridge stack up")
    if "redis-server" in packages:
        disable_packaged_redis()


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Forbid package scripts to start services meanwhile (Debian's policy-rc.d; 101 means: not allowed).

    The Debian package of Redis would otherwise start its own server on port 6379. A policy that is there already
    is the machine owner's and stays as it is.
    """
    if POLICY_RC_D.exists():
        yield
        return
    POLICY_RC_D.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    POLICY_RC_D.chmod(0o755)
    try:
        yield
    finally:
        POLICY_RC_D.unlink(missing_ok=True)


def disable_packaged_redis() -> None:
    """The packaged service shall not come up at the next boot either: nobody asked for it."""
    if Path("/run/systemd/system").is_dir():
        subprocess.run(
            ["/usr/bin/systemctl", "disable", "--now", "redis-server"], capture_output=True, timeout=60, check=False
        )
