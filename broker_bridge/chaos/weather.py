"""How our own targets behave at the moment: one small file that the harness writes and every worker looks at."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Mood = Literal["fine", "down", "errors", "slow", "hang", "fail_after_effect", "refuse_for_a_while", "block_loop"]


@dataclass(frozen=True, kw_only=True)
class Weather:
    """``share`` of the messages (chosen by their key) feel it; ``seconds`` is how long slow, hang and block take."""

    mood: Mood = "fine"
    share: float = 1.0
    seconds: float = 0.5


FINE = Weather()


class WeatherFile:
    """The file. Written whole and renamed; read again only when it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._now = FINE

    def write(self, weather: Weather) -> None:
        """From now on."""
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(weather)), encoding="utf-8")
        scratch.replace(self._path)

    def read(self) -> Weather:
        """As it is now; fine where nobody said anything."""
        try:
            found = os.stat(self._path)
            if (found.st_mtime_ns, found.st_ino) != self._seen:
                self._now = Weather(**json.loads(self._path.read_text(encoding="utf-8")))
                self._seen = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            return FINE
        return self._now
