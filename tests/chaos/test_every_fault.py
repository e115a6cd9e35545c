"""Real workers on a real Kafka and a real Redis under real faults: the guarantee holds, and figures are printed.

Row numbers are those of the fault matrix (docs/chaos.md).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker_bridge.chaos.experiment import Result
from broker_bridge.chaos.faults.catalogue import FAULTS
from broker_bridge.chaos.servers import Servers
from broker_bridge.chaos.verdict import Verdict, Window

Try = Callable[..., Result]

QUICK = ["worker-kill", "worker-freeze-session", "kafka-half-open", "redis-answers-lost"]
"""Those that run with every test run: one of each kind. All others are ``soak``."""
SHORT = [*QUICK, "none", "broker-kill", "redis-flushall"]
"""Those that show what they show within three seconds of the fault."""
ON_ONE = [name for name, fault in FAULTS.items() if fault.brokers == 1 and not fault.small_disk]
ON_THREE = [name for name, fault in FAULTS.items() if fault.brokers == 3]
ON_SMALL_DISK = [name for name, fault in FAULTS.items() if fault.small_disk]


def checked(result: Result) -> Verdict:
    """The verdict, which is good, of an experiment that was one."""
    verdict = result.verdict
    assert verdict is not None, result.skipped
    print(result)
    assert verdict.findings == []
    assert verdict.passed
    assert verdict.acknowledged >= 300
    assert verdict.keys >= 250
    return verdict


def quick_or_soak(name: str) -> object:
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.soak)


@pytest.mark.parametrize("name", [quick_or_soak(name) for name in ON_ONE])
def test_the_guarantee_holds_under(name: str, one_broker: Servers, attempt: Try) -> None:
    result = attempt(one_broker, name, hold_s=3 if name in SHORT else 8)
    verdict = checked(result)
    if name == "none":
        assert verdict.repeats.total() == 0
        assert result.deaths == 0
    if name == "worker-kill":
        assert result.deaths >= 3
        assert verdict.repeats.total() == verdict.repeats[Window.W1]
    if name in ("kafka-half-open", "redis-answers-lost"):
        assert result.facts["relay_swallowed_bytes"] > 0, "the fault was felt"
    if name in ("broker-kill", "redis-answers-lost", "kafka-half-open"):
        assert verdict.repeats[Window.W1] == verdict.repeats[Window.W3] == 0


@pytest.mark.soak
@pytest.mark.parametrize("name", ON_THREE)
def test_the_guarantee_holds_on_three_brokers_under(name: str, three_brokers: Servers, attempt: Try) -> None:
    checked(attempt(three_brokers, name, hold_s=8))


@pytest.mark.soak
@pytest.mark.parametrize("name", ON_SMALL_DISK)
def test_the_guarantee_holds_on_a_small_disk_under(
    name: str, tmp_path_factory: pytest.TempPathFactory, attempt: Try
) -> None:
    with Servers(tmp_path_factory.mktemp("small-disk"), small_disk=True, install=True) as servers:
        checked(attempt(servers, name, hold_s=5))
