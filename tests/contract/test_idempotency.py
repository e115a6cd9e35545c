"""Every idempotency store keeps the same promises (docs/reliability.md, claim state machine)."""

from __future__ import annotations

import pytest
from claim_checks import CHECKS, Check
from claim_labs import Lab


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
async def test_store(lab: Lab, check: Check) -> None:
    await check(lab)
