"""A wall clock that can be moved under a program that runs: a small library between it and the C library.

Redis asks ``gettimeofday`` and nothing else for the time of day. libfaketime cannot be put in front of a Redis whose
allocator asks for the time before it is loaded.
"""

from __future__ import annotations

import shlex
import shutil
import struct
import subprocess
from pathlib import Path

from broker_bridge.errors import StackError

SOURCE = """\
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift_s;

__attribute__((constructor)) static void look(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *seen = mmap(0, sizeof *shift_s, PROT_READ, MAP_SHARED, file, 0);
    if (seen != MAP_FAILED) shift_s = seen;
    close(file);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec real;
    (void)zone;
    if (syscall(SYS_clock_gettime, CLOCK_REALTIME, &real) != 0) return -1;
    now->tv_sec = real.tv_sec + (shift_s ? *shift_s : 0);
    now->tv_usec = real.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timeval found;
    gettimeofday(&found, 0);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


def compiler() -> str | None:
    """The C compiler it takes; None where there is none."""
    return shutil.which("cc")


class ShiftedClock:
    """The clock of programs that are started by ``wrapped``. It lives in ``folder``, and starts out right."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shift = folder / "clock-shift"
        self._library = folder / "clock.so"
        self.move(0)

    def wrapped(self, program: Path) -> Path:
        """What starts the program under this clock. Raises ``StackError`` where it cannot be compiled."""
        cc = compiler()
        source = self._folder / "clock.c"
        source.write_text(SOURCE, encoding="utf-8")
        command = [cc or "cc", "-O1", "-shared", "-fPIC", "-o", str(self._library), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603 - the compiler just found
        except (OSError, subprocess.SubprocessError) as error:
            raise StackError(f"the clock was not compiled: {error}", remedy="install a C compiler") from error
        script = self._folder / "with-clock"
        preload = f"LD_PRELOAD={shlex.quote(str(self._library))} CLOCK_SHIFT={shlex.quote(str(self._shift))}"
        script.write_text(f'#!/bin/sh\n{preload} exec {shlex.quote(str(program))} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
        return script

    def move(self, seconds: int) -> None:
        """From now on it is wrong by so much. In place: the programs have the file mapped."""
        value = struct.pack("=q", seconds)
        if not self._shift.exists():
            self._shift.write_bytes(value)
            return
        with self._shift.open("r+b") as file:
            file.write(value)
