"""``broker-bridge chaos``: try a route under faults, on a private stack, and judge what came of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import DEFAULT_CONFIG, emit, json_option, note
from broker_bridge.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_bridge.chaos.experiment import Plan
    from broker_bridge.chaos.faults.base import Fault
    from broker_bridge.config import BridgeConfig, RouteConfig


@click.group("chaos")
def group() -> None:
    """Try a route under faults, on a private stack.

    \b
    Example:
      broker-bridge chaos run --list
      broker-bridge chaos run --fault worker-kill --fault redis-answers-lost
    """


@group.command("run")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help=f"Your {DEFAULT_CONFIG}; without it a built-in route with a handler that logs its effects.",
)
@click.option("--route", "route_name", metavar="NAME", help="Which route; not needed where there is one.")
@click.option("--fault", "names", multiple=True, metavar="NAME", help="A fault; may be given more than once.")
@click.option("--all", "every", is_flag=True, help="Every fault, also those that need three brokers.")
@click.option("--list", "listing", is_flag=True, help="Say which faults there are, and run nothing.")
@click.option("--records", type=click.Path(path_type=Path), metavar="FILE", help="Send these values (NDJSON).")
@click.option("--sink", is_flag=True, help="A built-in HTTP target, with faults of its own, stands in for yours.")
@click.option("--workers", type=click.IntRange(1, 16), default=2, show_default=True, help="Worker processes.")
@click.option("--rate", type=click.IntRange(1, 5_000), default=150, show_default=True, help="Messages a second.")
@click.option(
    "--duration", "hold_s", type=click.FloatRange(1, 3_600), default=8, show_default=True,
    help="Seconds that a fault lasts which has no length of its own.",
)  # fmt: skip
@click.option(
    "--recover-within", "recover_within_s", type=click.FloatRange(1, 3_600),
    help="Seconds after healing until all must be settled.  [default: 60 and the route's own timeouts]",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is sent.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep logs and evidence there.")
@click.option("--install", is_flag=True, help="As root on Debian: apt-get the programs that are missing.")
@json_option
def run(
    *,
    config_path: Path | None,
    route_name: str | None,
    names: tuple[str, ...],
    every: bool,
    listing: bool,
    records: Path | None,
    sink: bool,
    workers: int,
    rate: int,
    hold_s: float,
    recover_within_s: float | None,
    seed: int,
    keep: Path | None,
    install: bool,
    as_json: bool,
) -> ExitCode:
    """Run workers of a route on a private Kafka and Redis, inject one fault after the other, and judge each.

    Nothing of your own servers is touched: topics, groups and addresses are private, policies and targets are yours.
    Handlers really run, so give them a place where their effects do no harm, or use --sink.

    Judged for every fault: what Kafka acknowledged is completed or dead (the audit), the target was called for it, no
    effect is repeated without a window of the guarantee to explain it, first effects follow the log for each key,
    executions of one key do not overlap, offsets never move back, and everything is settled in time after healing.
    An effect is what our own target logged; with your own target, a call that ended without an error.

    \b
    Example:
      broker-bridge chaos run
      broker-bridge chaos run --config bridge.toml --sink --all --json
      broker-bridge chaos run --config bridge.toml --records orders.ndjson --fault broker-kill

    \b
    Exit status: 0 the guarantee held · 1 it was violated · 2 wrong option or configuration · 3 no such file or route
                 4 the private stack did not start
    """
    from broker_bridge.chaos.run import run_faults
    from broker_bridge.cli.chaos_view import catalogue_rows, print_catalogue, print_results, results_json

    chosen = _chosen(names, every)
    if listing:
        emit(catalogue_rows(), human=print_catalogue)
        return ExitCode.OK
    with _folder(keep) as folder:
        plan = make_plan(
            config_path, route_name, folder, records=records, sink=sink, workers=workers, rate=rate, hold_s=hold_s,
            recover_within_s=recover_within_s, seed=seed,
        )  # fmt: skip
        results = []
        for result in run_faults(plan, chosen, folder, install=install, say=note):
            results.append(result)
            verdict = result.verdict
            note(f"{result.fault}: " + ("skipped" if verdict is None else "passed" if verdict.passed else "VIOLATED"))
    emit(results_json(results, seed=seed), human=lambda console: print_results(console, results, keep=keep))
    return ExitCode.NO if any(found.verdict and not found.verdict.passed for found in results) else ExitCode.OK


def _chosen(names: Sequence[str], every: bool) -> list[type[Fault]]:
    from broker_bridge.chaos.faults.catalogue import FAULTS, QUICK, fault_named

    if every and names:
        raise UsageError("--all and --fault exclude each other")
    return list(FAULTS.values()) if every else [fault_named(name) for name in names or QUICK]


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where servers, logs and evidence go; gone afterwards unless it is to be kept."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="broker-bridge-chaos-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_plan(
    config_path: Path | None,
    route_name: str | None,
    folder: Path,
    *,
    records: Path | None = None,
    sink: bool = False,
    workers: int = 2,
    rate: int = 150,
    hold_s: float = 8.0,
    recover_within_s: float | None = None,
    seed: int = 1,
) -> Plan:
    """What to run. Raises ``BridgeError`` where the route cannot be tried."""
    from broker_bridge.bootstrap import open_codec
    from broker_bridge.chaos.built_in import write_built_in
    from broker_bridge.chaos.experiment import Plan
    from broker_bridge.chaos.workload import Drawn, Given, Orders, Workload
    from broker_bridge.cli.operator_scope import choose_route
    from broker_bridge.cli.output import read_config
    from broker_bridge.config import HttpTarget

    path = config_path or write_built_in(folder)
    if not path.exists():
        raise NotFoundError("there is no such configuration", where=str(path))
    config = read_config(path)
    route = choose_route(config, route_name)
    if route.contract is None:
        raise UsageError("the route has no [route.contract], so nothing is known to send", where=route.name)
    if sink and not isinstance(route.target, HttpTarget):
        raise UsageError("--sink stands in for an HTTP target only", where=route.name)
    contract = open_codec(config).contract_for(route.topic, route.contract.subject, route.contract.version)

    def workload(number: int, poison: float) -> Workload:
        if records is not None:
            return Given(records)
        return Orders(number, poison=poison) if config_path is None else Drawn(number, contract)

    workload(seed, 0.0)  # a file that cannot be read is told now
    return Plan(
        config=config, config_path=path.absolute(), route=route.name, workload=workload, cwd=Path.cwd(), seed=seed,
        per_s=rate, hold_s=hold_s, workers=workers, with_sink=sink,
        recover_within_s=recover_within_s or patience_s(config, route),
    )  # fmt: skip


def patience_s(config: BridgeConfig, route: RouteConfig) -> float:
    """How long a route may need after a fault: sessions and leases run out, retry lanes are waited for."""
    waits_ms = 2 * config.kafka.session_timeout_ms + 2 * route.claims.lease_ms + sum(route.retry.lanes_ms)
    return 60.0 + waits_ms / 1000
