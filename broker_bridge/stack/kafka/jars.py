"""Kafka's jars: fetched once by Maven from the pinned pom beside this file, then kept in a cache folder.

Two processes may prepare the folder at once: a lock lets one of them work, and it puts the finished folder in
place by one rename, so that a reader sees all of it or nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from broker_bridge.errors import StackError
from broker_bridge.stack.prerequisites import Progress

KAFKA_VERSION = "4.4.0"
MANIFEST = "manifest.json"
MAVEN_DEADLINE_S = 900


def cache_root() -> Path:
    """`$BROKER_BRIDGE_CACHE`, or `~/.cache/broker_bridge`."""
    chosen = os.environ.get("BROKER_BRIDGE_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "broker_bridge"


def jar_folder() -> Path:
    return cache_root() / f"kafka-{KAFKA_VERSION}"


def pom_bytes() -> bytes:
    return resources.files("broker_bridge.stack.kafka").joinpath("pom.xml").read_bytes()


def cached_jars() -> list[Path] | None:
    """The jars in a fixed order, or None when the folder is missing, incomplete or made from another pom."""
    folder = jar_folder()
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes: dict[str, int] = manifest["sizes"]
        if manifest["pom_sha256"] != hashlib.sha256(pom_bytes()).hexdigest() or not sizes:
            return None
        jars = [folder / name for name in sorted(sizes)]
        return jars if all(jar.stat().st_size == sizes[jar.name] for jar in jars) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def prepare_jars(mvn: Path | None, *, progress: Progress) -> list[Path]:
    """The jars, fetched by Maven if they are not in the cache. Raises StackError."""
    jars = cached_jars()
    if jars is not None:
        return jars
    if mvn is None:
        raise StackError("Kafka's jars left the cache meanwhile", where=str(jar_folder()), remedy="run it again")
    try:
        cache_root().mkdir(parents=True, exist_ok=True)
        with lock(cache_root() / f".kafka-{KAFKA_VERSION}.lock"):
            jars = cached_jars()  # another process may have finished while this one waited
            if jars is None:
                progress(f"fetching Kafka {KAFKA_VERSION} (43 MB, once)")
                fetch(mvn)
                jars = cached_jars()
    except OSError as error:
        remedy = "make it writable, or name another folder in BROKER_BRIDGE_CACHE"
        detail = f"the cache cannot be written: {error.strerror or error}"
        raise StackError(detail, where=str(cache_root()), remedy=remedy) from error
    if jars is None:
        remedy = f"remove {jar_folder()} and run it again"
        raise StackError("Maven reported success but the jars are not whole", where=str(jar_folder()), remedy=remedy)
    return jars


def fetch(mvn: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".kafka-", dir=cache_root()) as scratch:
        pom, libs = Path(scratch, "pom.xml"), Path(scratch, "libs")
        pom.write_bytes(pom_bytes())
        run_maven([str(mvn), "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={libs}"])
        sizes = {jar.name: jar.stat().st_size for jar in libs.glob("*.jar")}
        manifest = {"pom_sha256": hashlib.sha256(pom.read_bytes()).hexdigest(), "sizes": sizes}
        (libs / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if jar_folder().exists():
            shutil.rmtree(jar_folder())
        libs.rename(jar_folder())


def run_maven(command: list[str], *, what: str = "Kafka's jars", cwd: Path | None = None) -> None:
    """Run Maven to fetch ``what``. Raises StackError with what it said."""
    said = ""
    try:
        done = subprocess.run(  # noqa: S603 - the program just located, fixed arguments
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAVEN_DEADLINE_S,
            check=False,
        )
        if done.returncode == 0:
            return
        lines = (done.stdout + done.stderr).strip().splitlines()
        said = f"status {done.returncode}:\n" + "\n".join(lines[:12])
    except subprocess.TimeoutExpired:
        said = f"no end after {MAVEN_DEADLINE_S} s"
    raise StackError(
        f"Maven could not fetch {what}: {said}",
        where=" ".join(command),
        remedy="check that this machine reaches a Maven repository (a mirror goes into ~/.m2/settings.xml)",
    )


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """An exclusive lock that the system frees when its holder dies."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
