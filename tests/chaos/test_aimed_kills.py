"""Fault rows 1 to 8, exactly: a worker process dies between two steps of the engine, another takes over, and what may
follow of it follows. Real Kafka, real Redis; the experiments run side by side, for most of their time is waiting.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import pytest

from broker_bridge.bootstrap import open_store, open_transport
from broker_bridge.chaos.evidence import Delivery, read_deliveries, read_effects
from broker_bridge.chaos.experiment import Experiment, Plan, Result, make_topics
from broker_bridge.chaos.faults.aimed_kills import AIMED_KILLS, CAME_AGAIN, OUTSIDE_ITS_WINDOW, AimedKill
from broker_bridge.chaos.moments import Crossroads, Moment, Strike
from broker_bridge.chaos.private_config import Privacy, private_config
from broker_bridge.chaos.servers import Servers
from broker_bridge.chaos.verdict import Verdict, Window
from broker_bridge.cli.chaos import make_plan
from broker_bridge.config import BridgeConfig
from broker_bridge.core.identity import claim_key
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.route import ReplayRoute

AT_ONCE = 4
FAULTS = {fault.moment: fault for fault in AIMED_KILLS}

COMMITS_BEFORE_IT_CLAIMS = """
from broker_bridge.core.watermark import Watermark
from broker_bridge.worker.route_worker import RouteWorker
Watermark.committable = property(lambda self: self._next)
make = RouteWorker.__init__
def init(self, *args, **options):
    make(self, *args, **options)
    claim = self._claims._claim
    async def commit_first(batch):
        await self._committer.commit(self.pipeline.assignment.states())
        await claim(batch)
    self._claims._claim = commit_first
RouteWorker.__init__ = init
"""
COMMITS_BEFORE_IT_SENDS = """
from broker_bridge.core.watermark import Watermark
from broker_bridge.worker.route_worker import RouteWorker
highest = property(lambda self: self._next)
lowest = Watermark.committable
make = RouteWorker.__init__
def init(self, *args, **options):
    make(self, *args, **options)
    publish = self._settler._publish
    async def commit_first(outcomes):
        if outcomes:
            Watermark.committable = highest
            await self._committer.commit(self.pipeline.assignment.states())
            Watermark.committable = lowest
        await publish(outcomes)
    self._settler._publish = commit_first
RouteWorker.__init__ = init
"""
COMPLETES_IN_A_MOMENT = """
import asyncio
from broker_bridge.core.claim import SettleStatus
from broker_bridge.idempotency.redis import RedisStore
settle = RedisStore.settle
tasks = set()
async def later(self, group, settlements, *, ttl_ms):
    async def really():
        await asyncio.sleep(0.3)
        await settle(self, group, settlements, ttl_ms=ttl_ms)
    tasks.add(asyncio.ensure_future(really()))
    return [SettleStatus.OK] * len(settlements)
RedisStore.settle = later
"""
BROKEN = {
    "commits before it claims": (COMMITS_BEFORE_IT_CLAIMS, Moment.AFTER_CLAIM, "lost (I1)"),
    "commits before it sends": (COMMITS_BEFORE_IT_SENDS, Moment.AFTER_DEAD_LETTER_ACK, "lost (I1)"),
    "says completed before it is": (COMPLETES_IN_A_MOMENT, Moment.AFTER_COMPLETE, CAME_AGAIN),
}

QUICK = ["commits before it claims"]
"""Those that are flagged with every test run."""


@dataclass(frozen=True)
class Played:
    """One experiment: the result, and its evidence."""

    result: Result
    folder: Path
    config: BridgeConfig

    @property
    def verdict(self) -> Verdict:
        assert self.result.verdict is not None, self.result.skipped
        return self.result.verdict

    @property
    def strike(self) -> Strike:
        found = Crossroads(self.folder).strike()
        assert found is not None
        return found

    def key_of(self, idempotency_key: str) -> str:
        return claim_key(idempotency_key, namespace=self.config.routes[0].topic).hex()

    def effects(self) -> Counter[str]:
        """How many effects each message had, by claim key."""
        return Counter(self.key_of(effect.key) for effect in read_effects(self.folder / "effects.ndjson"))

    def came_again(self) -> dict[str, Delivery]:
        """The first call after the death, of each message that was in hand, by claim key."""
        found: dict[str, Delivery] = {}
        for delivery in read_deliveries(self.folder / "deliveries.ndjson"):
            key = self.key_of(delivery.key)
            if delivery.started_ms > self.strike.at_ms and key in self.strike.keys:
                found.setdefault(key, delivery)
        return found


class Stage:
    """Plays experiments side by side on the same servers."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._making_topics = Lock()  # one after the other: many at once take long to appear
        self._made = 100
        self.playing: dict[str, Future[Played]] = {}

    def submit(self, name: str, fault: type[AimedKill], **options: object) -> None:
        self._made += 1
        self.playing[name] = self._pool.submit(self._play, fault, self._made, options)

    def _play(self, fault: type[AimedKill], number: int, options: dict[str, object]) -> Played:
        folder = self._folder / str(number)
        folder.mkdir()
        plan: Plan = replace(make_plan(None, None, folder, rate=40), warm_up=50, **options)
        privacy = Privacy(
            route=plan.route, bootstrap=self._servers.bootstrap, redis_url=self._servers.redis_url, suffix=f".x{number}"
        )
        config = private_config(plan.config, privacy)
        with self._making_topics:
            asyncio.run(make_topics(config, 1))
        result = Experiment(plan, self._servers, fault(), number, folder, print).run()
        return Played(result, folder / f"{number}-{fault.name}", config)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def asked_for(request: pytest.FixtureRequest) -> list[str]:
    """The broken engines that some test of this run is about."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    named = [spec.params.get("name") for spec in specs if spec is not None]
    return [name for name in BROKEN if name in named]


@pytest.fixture(scope="module")
def stage(
    one_broker: Servers, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    one_broker.mend()
    made = Stage(one_broker, tmp_path_factory.mktemp("aimed"))
    for moment, fault in FAULTS.items():
        made.submit(moment, fault)
    for name in asked_for(request):
        patch, moment, _ = BROKEN[name]
        folder = tmp_path_factory.mktemp("broken")
        (folder / "sitecustomize.py").write_text(patch)
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        made.submit(name, FAULTS[moment], environment={"PYTHONPATH": path}, recover_within_s=20)
    yield made
    made.close()


@pytest.fixture
def played(stage: Stage) -> Callable[[str], Played]:
    """What came of an experiment, once it is over."""
    return lambda name: stage.playing[name].result()


@pytest.mark.parametrize("moment", FAULTS)
def test_nothing_is_lost_and_repeats_are_of_the_one_window(moment: Moment, played: Callable[[str], Played]) -> None:
    found = played(moment)
    verdict, strike = found.verdict, found.strike
    print(found.result)
    assert verdict.findings == []
    assert verdict.passed
    assert (strike.moment, found.result.deaths) == (moment, 1)
    assert verdict.acknowledged >= 100
    others = len(set(strike.begun) - set(strike.keys))  # none, unless the machine is very busy
    least = 1 if moment is Moment.AFTER_EFFECT else 0
    assert least <= verdict.repeats[Window.W1] == verdict.repeats.total() <= least + others


@pytest.mark.parametrize("moment", [Moment.BEFORE_CLAIM, Moment.MID_CLAIM, Moment.AFTER_CLAIM])
def test_rows_1_2_and_5_what_had_not_begun_is_done_once(moment: Moment, played: Callable[[str], Played]) -> None:
    found = played(moment)
    in_hand = {*found.strike.keys, *found.strike.untouched}
    assert in_hand
    assert bool(found.strike.untouched) == (moment is Moment.MID_CLAIM)
    assert {found.effects()[key] for key in in_hand} <= {0, 1}, "0: it was poison"
    crashes = {delivery.crashes for delivery in found.came_again().values()}
    assert crashes <= {0 if moment is Moment.BEFORE_CLAIM else 1}


def test_row_3_the_effect_repeats_once_and_says_so(played: Callable[[str], Played]) -> None:
    found = played(Moment.AFTER_EFFECT)
    (key,) = found.strike.keys
    assert found.effects()[key] == 2
    assert found.came_again()[key].crashes == 1


def test_row_4_what_is_completed_does_not_come_again(played: Callable[[str], Played]) -> None:
    found = played(Moment.AFTER_COMPLETE)
    assert {found.effects()[key] for key in found.strike.keys} == {1}
    assert found.came_again() == {}


def test_row_6_of_two_copies_one_completes(played: Callable[[str], Played]) -> None:
    found = played(Moment.AFTER_RETRY_ACK)
    assert {found.effects()[key] for key in found.strike.keys} == {1}
    assert {delivery.crashes for delivery in found.came_again().values()} == {1}
    assert min(delivery.attempt for delivery in found.came_again().values()) >= 2, "it was tried before, and knows"


async def letters_of(config: BridgeConfig, keys: set[str]) -> Counter[LetterState]:
    """What state the dead letters of these messages are in."""
    route = ReplayRoute.of(config.routes[0])
    reader, store = open_transport(config).reader(), open_store(config)
    await reader.start()
    await store.start()
    try:
        letters = DeadLetters(reader=reader, store=store, route=route)
        batches = [batch async for batch in letters.browse(Selection())]
        return Counter(
            one.state for batch in batches for one in batch if letters.claim_key_of(one.letter).hex() in keys
        )
    finally:
        await store.stop()
        await reader.stop()


def test_row_7_of_two_dead_letters_the_later_stands(played: Callable[[str], Played]) -> None:
    found = played(Moment.AFTER_DEAD_LETTER_ACK)
    states = asyncio.run(letters_of(found.config, set(found.strike.keys)))
    dead = len(found.strike.keys)
    assert states == {LetterState.WAITING: dead, LetterState.SUPERSEDED: dead}


def test_row_8_what_the_drain_gave_back_has_no_crash(played: Callable[[str], Played]) -> None:
    found = played(Moment.DURING_DRAIN)
    assert not set(found.strike.keys) & set(found.strike.begun)
    assert {delivery.crashes for delivery in found.came_again().values()} <= {0}
    assert {found.effects()[key] for key in found.strike.begun} <= {0, 1}, "what was still running had no effect yet"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.soak) for name in BROKEN]
)
def test_an_engine_broken_on_purpose_is_flagged(name: str, played: Callable[[str], Played]) -> None:
    found, (_, _, flagged) = played(name), BROKEN[name]
    print(found.verdict.findings)
    assert found.verdict.counts[flagged] > 0, found.verdict.counts
    if flagged == CAME_AGAIN:
        assert found.verdict.counts[OUTSIDE_ITS_WINDOW] > 0, "a second effect, which the windows alone would excuse"
        assert found.verdict.repeats.total() == found.verdict.repeats[Window.W1]
