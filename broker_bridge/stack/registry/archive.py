"""Apicurio's programs: one archive, fetched once by Maven, checked against its hash, unpacked into the cache folder.

3.0.9 is the last release for Java 17, which Kafka needs too. As with Kafka's jars, a lock lets one process work and a
rename puts the finished folder in place.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from broker_bridge.errors import StackError
from broker_bridge.stack.kafka.jars import MANIFEST, cache_root, lock, run_maven
from broker_bridge.stack.prerequisites import Progress

APICURIO_VERSION: Final = "3.0.9"
ARTIFACT: Final = f"io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all"
SHA256: Final = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43"
FETCH_GOAL: Final = "org.apache.maven.plugins:maven-dependency-plugin:2.10:get"
"""The last version that says where to put one file; later ones want its parent project, which was never published."""
RUNNER: Final = f"apicurio-registry-app-{APICURIO_VERSION}-runner.jar"


def program_folder() -> Path:
    return cache_root() / f"apicurio-{APICURIO_VERSION}"


def cached_runner() -> Path | None:
    """The jar to start, or None when the folder is missing, incomplete or made from another archive."""
    folder = program_folder()
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes: dict[str, int] = manifest["sizes"]
        whole = manifest["sha256"] == SHA256 and RUNNER in sizes
        return folder / RUNNER if whole and all(_size(folder / name) == sizes[name] for name in sizes) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def prepare_runner(mvn: Path | None, *, progress: Progress) -> Path:
    """The jar to start, fetched by Maven if it is not in the cache. Raises StackError."""
    runner = cached_runner()
    if runner is not None:
        return runner
    if mvn is None:
        raise StackError("Apicurio left the cache meanwhile", where=str(program_folder()), remedy="run it again")
    try:
        cache_root().mkdir(parents=True, exist_ok=True)
        with lock(cache_root() / f".apicurio-{APICURIO_VERSION}.lock"):
            runner = cached_runner()  # another process may have finished while this one waited
            if runner is None:
                progress(f"fetching Apicurio Registry {APICURIO_VERSION} (109 MB, once)")
                _fetch(mvn)
                runner = cached_runner()
    except OSError as error:
        remedy = "make it writable, or name another folder in BROKER_BRIDGE_CACHE"
        detail = f"the cache cannot be written: {error.strerror or error}"
        raise StackError(detail, where=str(cache_root()), remedy=remedy) from error
    if runner is None:
        remedy = f"remove {program_folder()} and run it again"
        raise StackError("the archive does not hold what it should", where=str(program_folder()), remedy=remedy)
    return runner


def _fetch(mvn: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".apicurio-", dir=cache_root()) as scratch:
        archive, programs = Path(scratch, "archive.tar.gz"), Path(scratch, "programs")
        options = [f"-Dartifact={ARTIFACT}", "-Dtransitive=false", f"-Ddest={archive}"]
        run_maven([str(mvn), "-q", "-B", FETCH_GOAL, *options], what="Apicurio Registry", cwd=Path(scratch))
        _check(archive)
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(programs, filter="data")
        except tarfile.TarError as error:
            raise StackError(f"the archive cannot be unpacked: {error}", where=ARTIFACT) from error
        sizes = {str(file.relative_to(programs)): _size(file) for file in programs.rglob("*") if file.is_file()}
        manifest = {"sha256": SHA256, "sizes": sizes}
        (programs / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if program_folder().exists():
            shutil.rmtree(program_folder())
        programs.rename(program_folder())


def _check(archive: Path) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise StackError(
            f"the archive hashes to {found[:12]}…, not to {SHA256[:12]}…: it is not the release this was built with",
            where=ARTIFACT,
            remedy="remove it from Maven's own cache (~/.m2/repository/io/apicurio) and run it again; "
            "if it comes back, do not run it: the mirror has another file",
        )


def _size(file: Path) -> int:
    return file.stat().st_size
