"""The contract of idempotency stores: every check by its name.

They are plain functions so that they can be turned on stores broken on purpose as well (``test_broken_stores.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import claim_checks_counts
import claim_checks_ending
import claim_checks_holding
import claim_checks_losses
import claim_checks_tally
import claim_checks_versions
from claim_labs import Lab

Check = Callable[[Lab], Awaitable[None]]
CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): check
    for module in (
        claim_checks_holding,
        claim_checks_ending,
        claim_checks_counts,
        claim_checks_losses,
        claim_checks_tally,
        claim_checks_versions,
    )
    for name, check in vars(module).items()
    if name.startswith("check_")
}
