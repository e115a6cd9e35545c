"""The troubles come in order, files are followed line by line, and the run's configuration is the example's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from demo.child import ChildError
from demo.faults import Fault, Timeline
from demo.places import DEMO, RunFolder
from demo.run_config import write_run_config
from demo.screen import shortened
from demo.services import BUILDS, missing_toolchains
from demo.watching import Tail, Watch

from broker_bridge.config import load_config


def timeline(*faults: tuple[str, float, float]) -> tuple[Timeline, list[str], list[float]]:
    done: list[str] = []
    clock = [0.0]
    made = [
        Fault(name, name, share, lasts_s, partial(done.append, f"+{name}"), partial(done.append, f"-{name}"))
        for name, share, lasts_s in faults
    ]
    return Timeline(made, now_s=lambda: clock[0]), done, clock


def test_a_trouble_begins_with_the_stream_and_ends_with_the_clock() -> None:
    times, done, clock = timeline(("a", 0.2, 3.0), ("b", 0.5, 0.0))
    times.tick(0.1)
    assert done == []
    times.tick(0.2)
    assert (done, times.current) == (["+a"], "a")
    clock[0] = 2.9
    times.tick(0.3)
    assert done == ["+a"]
    clock[0] = 3.0
    times.tick(0.3)
    assert (done, times.current, times.is_over) == (["+a", "-a"], "", False)
    times.tick(0.5)
    assert (done, times.is_over) == (["+a", "-a", "+b", "-b"], True)


def test_the_next_trouble_waits_for_the_one_before() -> None:
    times, done, clock = timeline(("a", 0.2, 3.0), ("b", 0.3, 1.0))
    times.tick(0.9)
    assert done == ["+a"]
    clock[0] = 3.0
    times.tick(1.0)
    assert done == ["+a", "-a", "+b"]


def test_a_growing_file_is_read_in_whole_lines(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log")
    assert tail.lines() == []
    with tail.path.open("ab", buffering=0) as log:
        log.write(b"one\ntw")
        assert tail.lines() == [b"one"]
        log.write(b"o\nthree\n")
        assert tail.lines() == [b"two", b"three"]
        assert tail.lines() == []


def test_the_run_is_watched_through_its_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    watch = Watch(folder)
    folder.manifest.write_text("{}\n{}\n")
    folder.effects.write_text('{"seq":1,"kind":"applied"}\n{"seq":2,"kind":"repeat"}\n')
    stamp = '"timestamp": "2026-11-24T08:39:12.314984Z"'
    folder.log("worker-1").write_text(
        f'{{{stamp}, "event": "breaker_opened"}}\n{{{stamp}, "event": "other"}}\nTraceback\n'
        f'{{{stamp}, "event": "partitions_assigned"}}\n'
    )
    watch.look()
    assert (watch.sent, dict(watch.effects)) == (2, {"applied": 1, "repeat": 1})
    assert dict(watch.events) == {"breaker_opened": 1, "partitions_assigned": 1}
    assert watch.assigned("worker-1")
    assert not watch.assigned("worker-2")
    (opened,) = watch.between("breaker_opened", 0, 2e9)
    assert opened.at_s == pytest.approx(1_795_509_552.314984)
    assert watch.between("breaker_opened", 0, opened.at_s) == []


def test_the_run_s_configuration_is_the_example_with_other_places(tmp_path: Path) -> None:
    copy = tmp_path / "bridge.toml"
    places = {
        "bootstrap": "127.0.0.1:1234",
        "redis_url": "redis://127.0.0.1:5/0",
        "target_url": "http://127.0.0.1:6/payments",
    }
    write_run_config(DEMO / "bridge.toml", copy, schemas=tmp_path, **places)
    example, made = load_config(DEMO / "bridge.toml", {}), load_config(copy, {})
    assert made.kafka.bootstrap == "127.0.0.1:1234"
    assert made.redis.url.get_secret_value() == "redis://127.0.0.1:5/0"
    assert made.routes[0].target.url == "http://127.0.0.1:6/payments"  # type: ignore[union-attr]
    assert made.bridge.schemas == tmp_path
    assert example.bridge.schemas.resolve() == DEMO.parents[1] / "schemas"
    changed = {"kafka": example.kafka, "redis": example.redis, "bridge": example.bridge}
    target = example.routes[0].target
    assert made.model_copy(update=changed).routes[0].model_copy(update={"target": target}) == example.routes[0]


def test_a_template_without_a_setting_is_refused(tmp_path: Path) -> None:
    template = tmp_path / "t.toml"
    template.write_text('bootstrap = "a"\n')
    with pytest.raises(ChildError, match="is there 0 times"):
        write_run_config(
            template, tmp_path / "b.toml", bootstrap="b", redis_url="redis://r", target_url="http://t", schemas=tmp_path
        )


def test_a_new_run_removes_what_runs_write_and_nothing_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for path in (folder.config, folder.manifest, folder.effects, folder.plan, folder.report, folder.log("worker-1")):
        path.write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    folder.prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_toolchain_that_is_missing_is_told() -> None:
    assert missing_toolchains(lambda tool: f"/bin/{tool}") == []
    assert [build.name for build in missing_toolchains(lambda tool: None if tool == "cargo" else tool)] == ["payments"]
    assert missing_toolchains(lambda tool: None) == list(BUILDS)


def test_long_output_loses_its_middle_only() -> None:
    assert shortened("a\nb  \n\n") == ["a", "b"]
    assert shortened("\n".join("abcdef"), limit=4) == ["a", "b", "…", "f"]
