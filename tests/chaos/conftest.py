"""What chaos tests share: servers behind relays, and one experiment at a time on them.

The servers end with the test process, also when that is killed. A fault that cannot be played here is a failure, not a
skip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.chaos.experiment import Experiment, Plan, Result
from broker_bridge.chaos.faults.catalogue import fault_named
from broker_bridge.chaos.servers import Servers
from broker_bridge.cli.chaos import make_plan

Try = Callable[..., Result]
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One Kafka node and one Redis behind relays, for the whole run."""
    with Servers(tmp_path_factory.mktemp("chaos"), install=True) as servers:
        yield servers


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Three Kafka nodes that replicate."""
    with Servers(tmp_path_factory.mktemp("chaos-of-three"), brokers=3, install=True) as servers:
        yield servers


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    """Play one fault on given servers; options are those of a plan."""

    def run(servers: Servers, name: str, **options: Any) -> Result:
        environment = options.pop("environment", {})
        plan = Plan(**{**vars(make_plan(None, None, tmp_path, **options)), "environment": environment})
        servers.mend()
        experiment = Experiment(plan, servers, fault_named(name)(), next(_NUMBERS), tmp_path, print)
        assert not experiment.cannot_run()
        return experiment.run()

    return run
