"""Mistakes in bridge.toml: every kind is told with place, value and remedy, word for word."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from config_mistakes import BAD, ROUTE

from broker_bridge.config import BridgeConfig, load_config
from broker_bridge.errors import ConfigError, UnsafeSettingsError

SECTIONS = """
[route.retry]
lanes = ["2s", "10s"]
[route.output]
topic = "results"
subject = "s"
[bridge]
schemas = "s"
[kafka]
bootstrap = "127.0.0.1:9092"
session_timeout = "45s"
[redis]
url = "redis://127.0.0.1:6379/0"
[health]
listen = "127.0.0.1:0"
"""
VALUES = [
    "1", "-1", "true", '"x"', '""', "[]", "{}", "[[1]]", "{ a = 1 }", "nan", "inf", "9" * 30, "1979-05-27",
    '"\\u0000\\u001b[2J"', '"redis://[::1"', '"http://a:99999/"', '":0"', '"a:b:c"', "{ kind = [1] }", '"topic"',
]  # fmt: skip


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bridge.toml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> BridgeConfig:
    return load_config(written(tmp_path, text), environ or {})


def refused(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ)
    return caught.value


@pytest.mark.parametrize(("text", "detail", "remedy"), [pytest.param(*case[1:], id=case[0]) for case in BAD])
def test_each_mistake_is_told_exactly(tmp_path: Path, text: str, detail: str, remedy: str) -> None:
    error = refused(tmp_path, text)
    assert error.where == str(tmp_path / "bridge.toml")
    assert (error.detail, error.remedy) == (detail, remedy)
    assert "canary" not in str(error)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """
[kafka]
bootstap = "127.0.0.1:1"
[[route]]
name = "good"
topic = "t"
target = { kind = "python", handler = "a:b" }
claims = { lease = "1ms" }
[[route]]
name = "bad"
topic = "t"
concurrency = 0
target = { kind = "python", handler = "a:b" }
"""
    error = refused(tmp_path, text, {"BROKER_BRIDGE_REDIS__WAIT_REPLICAS": "two"})
    path = tmp_path / "bridge.toml"
    assert error.detail.splitlines() == [
        "4 problems",
        (
            "  environment variable BROKER_BRIDGE_REDIS__WAIT_REPLICAS: redis.wait_replicas = 'two': "
            "must be a whole number, not text"
        ),
        "  line 3: kafka.bootstap: unknown key",
        "      did you mean 'bootstrap'?",
        "  line 8: route[good].claims.lease = '1ms': must be at least 1s, so that it can be renewed in time",
        "  line 12: route[bad].concurrency = 0: must be at least 1",
    ]
    assert error.remedy == f"mend each, then check with: broker-bridge doctor --config {path}"


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("BROKER_BRIDGE_KAFKA__BOOTSTAP", "did you mean BROKER_BRIDGE_KAFKA__BOOTSTRAP?"),
        ("BROKER_BRIDGE_KAFKA_BOOTSTRAP", "did you mean BROKER_BRIDGE_KAFKA__BOOTSTRAP?"),
        ("BROKER_BRIDGE_X__Y", "settings are named BROKER_BRIDGE_<SECTION>__<KEY>"),
    ],
)
def test_a_variable_that_names_no_setting_is_told(tmp_path: Path, variable: str, remedy: str) -> None:
    error = refused(tmp_path, "", {variable: "canary"})
    assert (error.detail, error.remedy) == (f"environment variable {variable}: names no setting", remedy)


@pytest.mark.parametrize(
    ("text", "detail", "remedy"),
    [
        (
            '[kafka]\nbootstrap = "kafka-1:9092,127.0.0.1:9092"\n',
            (
                "line 2: kafka.bootstrap = 'kafka-1:9092,127.0.0.1:9092': kafka-1 is not this machine, and PLAINTEXT "
                "would send records unencrypted"
            ),
            'set security_protocol = "SASL_SSL" (or "SSL"), or allow_plaintext = true under [kafka]',
        ),
        (
            '[redis]\nurl = "redis://u:canary@cache:6379/0"\n',
            (
                "line 2: redis.url = 'redis://***@cache:6379/0': cache is not this machine, and redis:// would "
                "send claims and the password unencrypted"
            ),
            "use rediss://, or set allow_plaintext = true under [redis]",
        ),
        (
            '[registry]\nurl = "https://a.example,http://b.example"\n',
            (
                "line 2: registry.url = 'https://a.example,http://b.example': b.example is not this machine, and "
                "http:// would send schemas and credentials unencrypted"
            ),
            "use https://, or set allow_plaintext = true under [registry]",
        ),
    ],
)
def test_plaintext_beyond_this_machine_is_refused_unless_allowed(
    tmp_path: Path, text: str, detail: str, remedy: str
) -> None:
    error = refused(tmp_path, text)
    assert isinstance(error, UnsafeSettingsError)
    assert (error.detail, error.remedy) == (detail, remedy)
    assert loaded(tmp_path, text + "allow_plaintext = true\n")


def test_what_is_not_toml_is_told_with_its_line(tmp_path: Path) -> None:
    error = refused(tmp_path, "[kafka]\nbootstrap = 127.0.0.1:9092\n")
    assert error.detail.startswith("line 2: is not TOML: ")
    assert error.remedy == "see https://toml.io for how tables, text and lists are written"


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    cases: list[tuple[Path, str]] = [(tmp_path / "none.toml", "no such file"), (tmp_path, "is a folder, not a file")]
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge").write_bytes(b"#" * (2 << 20))
    cases += [
        (tmp_path / "binary", "is not UTF-8 text"),
        (tmp_path / "huge", "is larger than 1 MiB, so it is no bridge.toml"),
    ]
    for path, detail in cases:
        with pytest.raises(ConfigError) as caught:
            load_config(path, {})
        assert (caught.value.where, caught.value.detail) == (str(path), detail)
        assert caught.value.remedy == "name the configuration with --config PATH"


def test_values_of_unknown_keys_are_never_shown(tmp_path: Path) -> None:
    error = refused(tmp_path, '[kafka]\npasswrd = "canary"\n')
    assert error.detail == "line 2: kafka.passwrd: unknown key"


def test_control_characters_of_the_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    route = '[[route]]\nname = "a\\u001b[31m"\ntopic = "t"\ntarget = { kind = "topic", topic = "x" }\n'
    for text in (route, '"k\\u001b[2J" = 1\n', '[kafka]\nca_file = "\\u001b[2J\\r"\n'):
        error = refused(tmp_path, text)
        assert not any(char in str(error) for char in "\x1b\r")
        assert "\\x1b[" in str(error)


def test_lines_are_found_behind_multiline_texts_and_dotted_keys(tmp_path: Path) -> None:
    text = '[bridge]\nservice = """\n[kafka]\nbootstap = 1\n"""\n[kafka]\nbootstap = 1\n'
    assert refused(tmp_path, text).detail == "line 7: kafka.bootstap: unknown key"
    assert refused(tmp_path, "redis.prefx = 1\n").detail == "line 1: redis.prefx: unknown key"


def test_whatever_is_damaged_is_told_as_a_configuration_error(tmp_path: Path) -> None:
    """Lines of a sound file are changed, dropped, doubled and garbled: it is read, or refused with words."""
    sound = (ROUTE + SECTIONS).splitlines()
    for seed in range(600):
        chance = random.Random(seed)
        lines = list(sound)
        for _ in range(chance.randint(1, 3)):
            damage(lines, chance)
        assert "\x1b" not in told(tmp_path, "\n".join(lines)), f"seed {seed}"


def told(tmp_path: Path, text: str) -> str:
    """What is said of the file: nothing where it is read."""
    try:
        loaded(tmp_path, text)
    except ConfigError as error:
        return str(error)
    return ""


def damage(lines: list[str], chance: random.Random) -> None:
    at = chance.randrange(len(lines))
    match chance.randrange(5):
        case 0:
            lines[at] = f"{lines[at].split('=')[0]} = {chance.choice(VALUES)}"
        case 1:
            lines.pop(at)
        case 2:
            lines.insert(at, chance.choice(lines))
        case 3:
            lines[at] = lines[at].replace("[[", "[").replace("]]", "]")
        case _:
            cut = chance.randint(0, len(lines[at]))
            lines[at] = lines[at][:cut] + chance.choice('[]{}"=.#x\x00é') + lines[at][cut:]
