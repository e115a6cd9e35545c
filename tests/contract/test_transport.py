"""Every transport keeps the promises of ``broker_bridge/transport/base.py``: one suite, memory and real Kafka alike."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "transport_bench", "transport_labs", "transport_checks_group", "transport_checks_read", "transport_checks_write"
)

import transport_checks_group  # noqa: E402 - after assertions in them are made to explain themselves
import transport_checks_read  # noqa: E402
import transport_checks_write  # noqa: E402
from transport_bench import Bench, Check  # noqa: E402
from transport_labs import KafkaTransportLab, Lab, MemoryTransportLab  # noqa: E402

CHECKS = transport_checks_group.CHECKS | transport_checks_write.CHECKS | transport_checks_read.CHECKS


@pytest.fixture(params=["memory", "kafka"])
def transport_lab(request: pytest.FixtureRequest, unique: str) -> Lab:
    if request.param == "memory":
        return MemoryTransportLab(unique)
    return KafkaTransportLab(unique, request.getfixturevalue("kafka_bootstrap"))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
async def test_transport(transport_lab: Lab, check: Check) -> None:
    async with Bench(transport_lab) as bench:
        await check(bench)
