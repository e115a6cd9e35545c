"""``dlq export``, ``import`` and ``discard`` as an operator uses them: the installed command, real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition as KafkaPartition
from bridge_on_servers import SCHEMAS, open_world, write_config
from replay_world import World

from broker_bridge.core.discard import Place, read_place_texts
from broker_bridge.core.operation import Operation, read_operation
from broker_bridge.message import Record
from broker_bridge.replay.export import ExportedFile

GOLDEN = json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text())
ORDER = bytes.fromhex(GOLDEN["hex"])
COMMAND = [str(Path(sys.executable).with_name("broker-bridge"))]
DEADLINE_S = 60


@pytest.fixture
async def world(kafka_bootstrap: str, redis_url: str, unique: str, tmp_path: Path):
    opened = await open_world(write_config(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix=unique))
    yield opened
    await opened.stop()


@pytest.fixture
def bridge(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S, env=environment()
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}


async def dead_orders(world: World, count: int) -> list[Record]:
    letters = [await world.die(record) for record in await world.produce(count, value=ORDER)]
    await world.commit_all()
    return [letter for letter in letters if letter is not None]


async def remove(bootstrap: str, topic: str, before: Mapping[int, int]) -> None:
    """As retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        wanted = {KafkaPartition(topic, partition): RecordsToDelete(offset) for partition, offset in before.items()}
        await admin.delete_records(wanted)
    finally:
        await admin.close()


async def operations(world: World, action: str) -> list[Operation]:
    found = [read_operation(record.value) for record in await world.read_all(f"{world.route.group[:-9]}-operations")]
    return [one for one in found if isinstance(one, Operation) and one.action == action]


def bytes_of(records: list[Record]) -> list[tuple[object, ...]]:
    return [(one.key, one.value, one.timestamp_ms, list(one.headers)) for one in records]


async def test_out_of_the_topic_and_back(world: World, bridge, kafka_bootstrap: str, tmp_path: Path) -> None:
    letters = await dead_orders(world, 3)
    told = json.loads(bridge("dlq", "export", "--out", "a.jsonl", "--json").stdout)
    assert (told["letters"], told["states"]) == (3, {"waiting": 3})
    with ExportedFile.open(tmp_path / "a.jsonl") as file:
        assert bytes_of([one.record for one in file.letters()]) == bytes_of(letters)
    streamed = bridge("dlq", "export", "--out", "-", "--json")
    lines = [json.loads(line) for line in streamed.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["dead_letters", "letter", "letter", "letter", "end"]
    assert lines[1]["value_json"]["amount_cents"] == 1299
    assert json.loads(streamed.stderr.splitlines()[-1])["letters"] == 3
    assert "exists already" in bridge("dlq", "export", "--out", "a.jsonl", code=2).stderr

    (tmp_path / "half.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes()[:-90])
    refused = json.loads(bridge("dlq", "import", "half.jsonl", "--json", code=2).stderr.splitlines()[-1])
    assert (refused["code"], refused["detail"]) == ("export_invalid", "line 5 is cut off")

    # Nothing is missing yet; then retention removes all.
    assert json.loads(bridge("dlq", "import", "a.jsonl", "--json").stdout)["already_there"] == 3
    await remove(kafka_bootstrap, world.route.dead_letter_topic, {0: 3})
    preview = bridge("dlq", "import", "a.jsonl").stdout
    assert "3 would be imported" in preview
    assert "not confirmed" in bridge("dlq", "import", "a.jsonl", "--execute", code=2).stderr
    assert await world.read_all(world.route.dead_letter_topic) == []
    done = json.loads(bridge("dlq", "import", "a.jsonl", "--execute", "--confirm-count", "3", "--json").stdout)
    assert (done["imported"], done["moved"], done["executed"]) == (3, 3, True)
    assert bytes_of(await world.read_all(world.route.dead_letter_topic)) == bytes_of(letters)
    again = json.loads(bridge("dlq", "import", "a.jsonl", "--execute", "--yes", "--json").stdout)
    assert (again["imported"], again["already_there"], again["moved"]) == (0, 3, 0)
    listed = json.loads(bridge("dlq", "list", "--json").stdout)["letters"]
    assert [one["state"] for one in listed] == ["waiting"] * 3, "they can be replayed"
    planned = json.loads(bridge("replay", "plan", "--why", "x", "--out", "a.plan", "--json").stdout)
    assert planned["prediction"]["to_replay"] == 3
    assert "of group" in bridge("dlq", "import", "a.jsonl", "--from-group", "x", code=5).stderr

    exported, imported = await operations(world, "letters_exported"), await operations(world, "letters_imported")
    assert [one.details["phase"] for one in exported] == ["begun", "ended"] * 2
    assert exported[1].details["sha256"] == told["sha256"] == imported[1].details["sha256"]
    assert imported[1].counts == {"letters": 3, "imported": 3, "already_there": 0, "moved": 3, "claim_expired": 0}


async def test_discarded_for_a_reason(world: World, bridge) -> None:
    letters = await dead_orders(world, 3)
    bridge("dlq", "discard", code=2)
    bridge("dlq", "discard", "--why", " ", code=2)
    why = ["--why", "refunded by hand"]
    preview = bridge("dlq", "discard", "--to-offset", "2", *why).stdout
    assert "2 would be discarded" in preview
    assert "Nothing was written" in preview
    wrong = bridge("dlq", "discard", "--to-offset", "2", *why, "--execute", "--confirm-count", "3", code=2)
    assert "there are 2 letters to discard, not 3; nothing was discarded" in wrong.stderr
    done = json.loads(
        bridge("dlq", "discard", *why, "--to-offset", "2", "--execute", "--confirm-count", "2", "--json").stdout
    )
    assert done["counts"] == {"selected": 2, "discarded": 2}
    states = [one["state"] for one in json.loads(bridge("dlq", "list", "--json").stdout)["letters"]]
    assert states == ["discarded", "discarded", "waiting"]
    recorded = await operations(world, "letters_discarded")
    assert [(one.details["phase"], one.why, one.plan_id) for one in recorded] == [
        (phase, "refunded by hand", done["id"]) for phase in ("begun", "places", "ended")
    ]
    places = list(read_place_texts(recorded[1].details["places"]))
    assert places == [Place(letter.partition, letter.offset) for letter in letters[:2]]
    story = bridge("history", "--plan", done["id"]).stdout
    assert "refunded by hand" in story
    assert 'places: ["0/0-1"]' in story
    listed = json.loads(bridge("history", "--json").stdout)["operations"]
    assert [one["details"]["phase"] for one in listed] == ["begun", "ended"], "no long lists among what others did"

    planned = json.loads(bridge("replay", "plan", "--why", "x", "--out", "a.plan", "--json").stdout)
    assert (planned["prediction"]["to_replay"], planned["prediction"]["discarded"]) == (1, 2)
    forced = bridge("replay", "plan", "--force", "--why", "x", "--out", "b.plan", "--json").stdout
    assert json.loads(forced)["prediction"]["forced"] == 2, "the way back"
    again = json.loads(bridge("dlq", "discard", *why, "--execute", "--yes", "--json").stdout)
    assert again["counts"] == {"selected": 3, "discarded": 1, "already_discarded": 2}


@pytest.mark.parametrize("command", ["export", "import", "discard"])
def test_help_has_an_example_and_the_exit_statuses(command: str) -> None:
    shown = subprocess.run([*COMMAND, "dlq", command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "Example:\n    broker-bridge dlq" in shown
    assert "Exit status: 0 done" in shown
