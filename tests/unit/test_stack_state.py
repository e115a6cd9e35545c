"""The state file: read back whole, refused when damaged, never written over by an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker_bridge.errors import StackError
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.state import (
    KafkaNodeState,
    ProcessState,
    RedisState,
    StackState,
    exclusive,
    read_state,
    remove_data,
    write_state,
)


def a_state() -> StackState:
    return StackState(
        engine="native",
        cluster_id="MkU3OEVBNTcwNTJENDM2Qk",
        kafka_heap_mb=512,
        kafka=[KafkaNodeState(node_id=1, port=20_001, controller_port=20_002)],
        redis=RedisState(port=20_003, process=ProcessState.of(this_process())),
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, a_state_now := a_state())
    assert read_state(tmp_path) == a_state_now
    assert [entry.name for entry in tmp_path.iterdir()] == ["stack.json"]


def test_no_file_is_no_stack(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "nowhere") is None


def test_living_names_the_processes_that_are_there() -> None:
    state = a_state()
    assert state.living() == [f"Redis (pid {this_process().pid})"]
    recycled = ProcessState(pid=this_process().pid, started="another-boot:1")
    assert state.model_copy(update={"redis": RedisState(port=1, process=recycled)}).living() == []


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda text: text[: len(text) // 2], "the whole file"),
        (lambda text: "", "the whole file"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version"),
        (lambda text: text.replace("20001", "99999"), "kafka.0.port"),
        (lambda text: text.replace('"redis"', '"rediss"'), "redis"),
        (lambda text: json.dumps([text]), "the whole file"),
    ],
    ids=["cut", "empty", "later version", "impossible port", "misnamed", "another shape"],
)
def test_a_damaged_file_is_named_with_place_and_remedy(spoil: object, named: str, tmp_path: Path) -> None:
    write_state(tmp_path, a_state())
    path = tmp_path / "stack.json"
    assert callable(spoil)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(StackError, match="damaged") as caught:
        read_state(tmp_path)
    assert caught.value.where == str(path)
    assert named in caught.value.detail
    assert "remove the file" in caught.value.remedy


def test_one_command_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with exclusive(folder), pytest.raises(StackError, match="at work"), exclusive(folder):
        pass
    with exclusive(folder):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StackError, match="cannot be written") as caught, exclusive(tmp_path / "file" / "stack"):
        pass
    assert caught.value.where == str(tmp_path / "file" / "stack")
    assert "--data-dir" in caught.value.remedy


def test_only_what_a_stack_wrote_is_removed(tmp_path: Path) -> None:
    work = tmp_path / "project"
    for name in ("kafka-1/data/log", "redis/appendonlydir/aof", "kafka-1.log", "redis.log.1", "src/kafka-1/mine"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("x")
    (work / "kafka-notes").write_text("mine")
    write_state(work, a_state())
    remove_data(work)
    assert sorted(entry.name for entry in work.iterdir()) == ["kafka-notes", "src"]
    assert (work / "src" / "kafka-1" / "mine").exists()


def test_an_empty_folder_goes_too(tmp_path: Path) -> None:
    work = tmp_path / "stack"
    with exclusive(work):
        write_state(work, a_state())
    remove_data(work)
    assert not work.exists()
    remove_data(work)
