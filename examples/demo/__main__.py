"""``python examples/demo``: the whole story on real parts. ``--help`` lists the options."""

from __future__ import annotations

import sys
from pathlib import Path

# Started by its path, this folder would be on the import path instead of being the package it is.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from demo.command_line import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
