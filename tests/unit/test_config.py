"""bridge.toml: what is read, and that every kind of mistake is told with place, value and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker_bridge.config import (
    BridgeConfig,
    ClaimSection,
    HttpTarget,
    OutputSection,
    PythonTarget,
    RetrySection,
    RouteConfig,
    SecretUrl,
    TopicTarget,
    config_warnings,
    load_config,
)
from broker_bridge.errors import ConfigError, UnsafeSettingsError

ROUTE = """
[[route]]
name = "payments"
topic = "orders.placed"

[route.target]
kind = "http"
url = "http://127.0.0.1:8080/payments"
"""
DAY_MS = 86_400_000


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


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert config.kafka.bootstrap == "127.0.0.1:9092"
    assert (config.kafka.session_timeout_ms, config.kafka.rebalance_timeout_ms) == (45_000, 60_000)
    assert config.redis.url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert config.bridge.schemas == tmp_path / "schemas"
    assert config.health.listen == "127.0.0.1:0"
    assert config.routes == []


def test_a_route_has_the_documented_defaults(tmp_path: Path) -> None:
    route = loaded(tmp_path, ROUTE).routes[0]
    assert (route.group, route.order, route.concurrency, route.poll_records) == ("payments", "key", 16, 500)
    assert (route.max_in_flight, route.max_in_flight_bytes, route.commit_interval_ms) == (2_000, 64 << 20, 500)
    assert isinstance(route.target, HttpTarget)
    assert (route.target.timeout_ms, route.target.max_response_bytes) == (10_000, 1 << 20)
    assert (route.retry.in_place, route.retry.base_ms, route.retry.max_ms) == (3, 100, 5_000)
    assert (route.retry.jitter, route.retry.lanes_ms) == (0.5, [])
    assert (route.claims.lease_ms, route.claims.ttl_ms, route.claims.crash_limit) == (30_000, 7 * DAY_MS, 3)
    assert (route.breaker.window, route.breaker.min_failures, route.breaker.min_keys) == (50, 5, 3)
    assert (route.breaker.open_ms, route.breaker.max_open_ms, route.breaker.probes) == (1_000, 30_000, 1)
    assert (route.dead_letter.message, route.dead_letter.on_dead, route.dead_letter.max_hops) == (False, "release", 5)
    assert route.shutdown.drain_ms == 20_000
    assert route.output is None
    assert route.contract is None
    assert config_warnings(loaded(tmp_path, ROUTE)) == []


def test_durations_sizes_targets_and_lanes_are_read(tmp_path: Path) -> None:
    text = """
[bridge]
service = "shop"
[health]
listen = "off"
[[route]]
name = "a"
topic = "orders.placed"
group = "payments"
max_in_flight_bytes = "8MiB"
target = { kind = "topic", topic = "copies", partitions = "same" }
retry = { lanes = ["2s", "10s", 60000], base = "50ms", max = "1.5s" }
claims = { lease = "5s", ttl = "7d" }
output = { topic = "results", subject = "shop.Done" }
"""
    config = loaded(tmp_path, text)
    route = config.routes[0]
    assert config.health.listen is None
    assert isinstance(route.target, TopicTarget)
    assert route.target_timeout_ms == 0
    assert route.retry.lanes_ms == [2_000, 10_000, 60_000]
    assert (route.retry.base_ms, route.retry.max_ms) == (50, 1_500)
    assert route.claims.lease_ms == 5_000
    assert route.max_in_flight_bytes == 8 << 20
    assert route.output is not None
    assert route.output.source == "shop"
    assert route.lane_names.all(route.retry.lanes_ms) == [
        "payments.orders.placed.retry-2s",
        "payments.orders.placed.retry-10s",
        "payments.orders.placed.retry-1m",
        "payments.orders.placed.redrive",
        "payments.orders.placed.dlq",
    ]


def test_the_producers_source_is_the_outputs_default(tmp_path: Path) -> None:
    text = ROUTE + '[route.output]\ntopic = "r"\nsubject = "s"\n[producer]\nsource = "/shop/payments"\n'
    output = loaded(tmp_path, text).routes[0].output
    assert output is not None
    assert output.source == "/shop/payments"


def test_models_are_made_in_python_by_attribute_names() -> None:
    route = RouteConfig(
        name="a",
        topic="t",
        target=PythonTarget(handler="shop.handlers:capture"),
        claims=ClaimSection(lease_ms=25_000),
        retry=RetrySection(lanes_ms=[1_000]),
        output=OutputSection(topic="r", subject="s"),
    )
    config = BridgeConfig(routes=[route])
    assert config.route("a") is not None
    assert config.route("b") is None
    assert config.routes[0].claims.lease_ms == 25_000
    assert config.routes[0].output is not None
    assert config.routes[0].output.source == "broker-bridge"
    with pytest.raises(ValidationError, match="frozen"):
        route.concurrency = 3


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    environ = {
        "BROKER_BRIDGE_KAFKA__BOOTSTRAP": "127.0.0.1:19092,localhost:19093",
        "BROKER_BRIDGE_KAFKA__SESSION_TIMEOUT": "12s",
        "BROKER_BRIDGE_KAFKA__DELIVERY_TIMEOUT": "2500",
        "BROKER_BRIDGE_REDIS__WAIT_REPLICAS": "2",
        "BROKER_BRIDGE_REDIS__ALLOW_EVICTION": "true",
        "BROKER_BRIDGE_BRIDGE__SCHEMAS": "contracts",
        "BROKER_BRIDGE_DEBUG": "1",
        "OTHER": "x",
    }
    config = loaded(tmp_path, '[kafka]\nbootstrap = "127.0.0.1:1"\n', environ)
    assert config.kafka.bootstrap == "127.0.0.1:19092,localhost:19093"
    assert (config.kafka.session_timeout_ms, config.kafka.delivery_timeout_ms) == (12_000, 2_500)
    assert (config.redis.wait_replicas, config.redis.allow_eviction) == (2, True)
    assert config.bridge.schemas == tmp_path / "contracts"


def test_secrets_do_not_show(tmp_path: Path) -> None:
    environ = {"BROKER_BRIDGE_KAFKA__PASSWORD": "canary-1", "BROKER_BRIDGE_REDIS__URL": "rediss://u:canary-2@h:1/0"}
    kafka = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "SCRAM-SHA-512"\nusername = "u"\n'
    route = ROUTE + 'headers = { Authorization = "Bearer canary-3" }\n'
    config = loaded(tmp_path, kafka + route, environ)
    assert "canary" not in repr(config) + str(config)
    assert str(config.redis.url) == "rediss://***@h:1/0"
    assert config.redis.url == SecretUrl("rediss://u:canary-2@h:1/0")


BAD: list[tuple[str, str, str, str]] = [
    # what is wrong, the file, the detail, the remedy
    ("unknown key", '[kafka]\nbootstap = "x"\n', "line 2: kafka.bootstap: unknown key", "did you mean 'bootstrap'?"),
    ("unknown section", "[kafak]\n", "line 1: kafak: unknown key", "did you mean 'kafka'?"),
    (
        "unknown key, nothing near",
        "[health]\nzzz = 1\n",
        "line 2: health.zzz: unknown key",
        "known here: listen",
    ),
    (
        "one bracket",
        ROUTE.replace("[[route]]", "[route]"),
        "line 2: route: must be a list in [ ], not a table",
        "write [[route]] with two brackets, one for each route",
    ),
    (
        "unit in the key",
        ROUTE + "[route.claims]\nlease_ms = 4000\n",
        "line 10: route[payments].claims.lease_ms: unknown key",
        "did you mean 'lease'? Units go into the value: lease = \"30s\"",
    ),
    (
        "wrong type",
        ROUTE.replace("topic = ", 'concurrency = "16"\ntopic = '),
        "line 4: route[payments].concurrency = '16': must be a whole number, not text",
        "",
    ),
    (
        "true is no number",
        ROUTE.replace("topic = ", "concurrency = true\ntopic = "),
        "line 4: route[payments].concurrency = true: must be a whole number, not true or false",
        "",
    ),
    (
        "missing topic",
        ROUTE.replace('topic = "orders.placed"\n', ""),
        "line 2: route[payments].topic: is required, but missing",
        "add topic = …",
    ),
    (
        "missing name",
        ROUTE.replace('name = "payments"\n', ""),
        "line 2: route[#1].name: is required, but missing",
        "add name = …",
    ),
    (
        "missing target",
        '[[route]]\nname = "a"\ntopic = "t"\n',
        "line 1: route[a].target: is required, but missing",
        "",
    ),
    (
        "unknown kind",
        ROUTE.replace('kind = "http"', 'kind = "htp"'),
        "line 6: route[payments].target = 'htp': must be one of 'http', 'python', 'topic'",
        "did you mean 'http'?",
    ),
    (
        "no kind",
        ROUTE.replace('kind = "http"\n', ""),
        "line 6: route[payments].target: has no kind",
        'add kind = "http", "python" or "topic"',
    ),
    (
        "key of another kind",
        ROUTE + 'handler = "a:b"\n',
        "line 9: route[payments].target.handler: unknown key",
        "handler belongs to kind = 'python'",
    ),
    (
        "out of bounds",
        ROUTE + "[route.retry]\nin_place = 0\n",
        "line 10: route[payments].retry.in_place = 0: must be at least 1",
        "",
    ),
    (
        "share above one",
        ROUTE + "[route.retry]\njitter = 1.5\n",
        "line 10: route[payments].retry.jitter = 1.5: must be at most 1.0",
        "",
    ),
    (
        "choice",
        '[logging]\nlevel = "WARN"\n',
        "line 2: logging.level = 'WARN': must be one of 'debug', 'info', 'warning', 'error'",
        "did you mean 'warning'?",
    ),
    (
        "duration",
        ROUTE + '[route.claims]\nlease = "30 sec"\n',
        (
            "line 10: route[payments].claims.lease = '30 sec': must be a duration "
            '("250ms", "2s", "5m", "12h", "7d", or a whole number of milliseconds)'
        ),
        "",
    ),
    (
        "size",
        ROUTE + 'max_response_bytes = "1Mb"\n',
        (
            "line 9: route[payments].target.max_response_bytes = '1Mb': must be a size "
            '("64KiB", "1MiB", "2GiB", or a whole number of bytes)'
        ),
        "",
    ),
    (
        "topic name",
        ROUTE.replace("orders.placed", "orders placed"),
        "line 4: route[payments].topic = 'orders placed': may hold only letters, digits, '.', '_' and '-'",
        "",
    ),
    (
        "url",
        ROUTE.replace("http://127", "ftp://127"),
        (
            "line 8: route[payments].target.url = 'ftp://127.0.0.1:8080/payments': "
            "must be an http:// or https:// URL with a host, not 'ftp://127.0.0.1:8080/payments'"
        ),
        "",
    ),
    (
        "credentials in the url",
        ROUTE.replace("127.0.0.1:8080", "me:canary@127.0.0.1:8080"),
        "line 8: route[payments].target.url = 'http://***@127.0.0.1:8080/payments': must not carry a user or password",
        "send credentials in [route.target] headers",
    ),
    (
        "handler",
        '[[route]]\nname = "a"\ntopic = "t"\ntarget = { kind = "python", handler = "shop.capture" }\n',
        "line 4: route[a].target.handler = 'shop.capture': must be module:function, not 'shop.capture'",
        'for example: handler = "shop.handlers:capture"',
    ),
    (
        "bootstrap without port",
        '[kafka]\nbootstrap = "127.0.0.1"\n',
        "line 2: kafka.bootstrap = '127.0.0.1': must be host:port, not '127.0.0.1'",
        "",
    ),
    (
        "file that is not there",
        '[kafka]\nca_file = "/nowhere/ca.pem"\n',
        "line 2: kafka.ca_file = '/nowhere/ca.pem': no such file: /nowhere/ca.pem",
        "",
    ),
    (
        "masked password",
        "[kafka]\npassword = 12345\n",
        "line 2: kafka.password = ***: must be text in quotes, not a number",
        "",
    ),
    (
        "password without SASL",
        '[kafka]\npassword = "canary"\n',
        "line 2: kafka.password: is never sent with security_protocol = 'PLAINTEXT'",
        'set security_protocol = "SASL_SSL"',
    ),
    (
        "not implemented: on_redis_down",
        ROUTE + '[route.claims]\non_redis_down = "fail_open"\n',
        (
            "line 10: route[payments].claims.on_redis_down = 'fail_open': is not implemented yet; only 'block' is: "
            "the route pauses and Kafka keeps the work until Redis is back"
        ),
        'set on_redis_down = "block"',
    ),
    (
        "not implemented: on_dead",
        ROUTE + '[route.dead_letter]\non_dead = "hold"\n',
        (
            "line 10: route[payments].dead_letter.on_dead = 'hold': is not implemented yet; only 'release' is: "
            "later messages of the key go on after a dead letter"
        ),
        'set on_dead = "release"',
    ),
    (
        "timeout and lease (I18)",
        ROUTE + 'timeout = "28s"\n',
        (
            'line 9: route[payments].target.timeout = "28s": must end 3s before the claim\'s lease of 30s, '
            "or another worker may start the same message (I18)"
        ),
        'set timeout to at most "27s", or a longer claims.lease',
    ),
    (
        "drain and rebalance (I20)",
        ROUTE + '[route.shutdown]\ndrain = "1m"\n',
        (
            'line 10: route[payments].shutdown.drain = "1m": must end 6s before kafka.rebalance_timeout, which is 1m, '
            "or partitions are taken away while work is in hand (I20)"
        ),
        'set drain to at most "54s", or a longer rebalance_timeout',
    ),
    (
        "lanes must grow",
        ROUTE + '[route.retry]\nlanes = ["10s", "2s"]\n',
        "line 10: route[payments].retry.lanes: must grow: 2s comes after 10s",
        'for example: lanes = ["2s", "10s", "1m"]',
    ),
    (
        "equal lanes",
        ROUTE + '[route.retry]\nlanes = ["60s", "1m"]\n',
        "line 10: route[payments].retry.lanes: must grow: 1m comes after 1m",
        'for example: lanes = ["2s", "10s", "1m"]',
    ),
    (
        "base and max",
        ROUTE + '[route.retry]\nbase = "10s"\n',
        'line 10: route[payments].retry.base = "10s": must not be longer than max, which is 5s',
        "",
    ),
    (
        "concurrency and in-flight limit",
        ROUTE.replace("topic = ", "max_in_flight = 600\nconcurrency = 700\ntopic = "),
        "line 5: route[payments].concurrency = 700: must not be more than max_in_flight, which is 600",
        "",
    ),
    (
        "breaker window",
        ROUTE + "[route.breaker]\nwindow = 3\n",
        "line 9: route[payments].breaker.min_failures = 5: can never be reached in a window of 3 outcomes",
        "",
    ),
    (
        "output is the source",
        ROUTE + '[route.output]\ntopic = "orders.placed"\nsubject = "s"\n',
        (
            "line 10: route[payments].output.topic = 'orders.placed': is the route's own topic: "
            "the route would feed itself for ever"
        ),
        "choose another topic",
    ),
    (
        "target is a lane",
        '[[route]]\nname = "a"\ntopic = "t"\ntarget = { kind = "topic", topic = "a.t.dlq" }\n',
        "line 4: route[a].target.topic = 'a.t.dlq': is a lane of this route: the route would feed itself for ever",
        "choose another topic",
    ),
    (
        "same name twice",
        ROUTE + ROUTE.replace("orders.placed", "others"),
        "line 11: route[payments].name = 'payments': is also the name of route #1",
        "give each route its own name",
    ),
    (
        "same group and topic",
        ROUTE + ROUTE.replace('"payments"\n', '"second"\ngroup = "payments"\n', 1),
        (
            "line 12: route[second].group = 'payments': route 'payments' already reads 'orders.placed' as group "
            "'payments'; offsets are per group"
        ),
        "give one of them another group",
    ),
    (
        "lanes of one name",
        ROUTE + ROUTE.replace('"payments"', '"payments.orders"', 1).replace("orders.placed", "placed"),
        (
            "line 10: route[payments.orders].group = 'payments.orders': its lane 'payments.orders.placed.redrive' is "
            "also one of route 'payments'"
        ),
        "give one of them another group",
    ),
    (
        "lane name too long",
        ROUTE.replace("orders.placed", "t" * 240),
        f"line 4: route[payments].topic: its lane payments.{'t' * 31}… is 257 characters long; Kafka allows 249",
        "shorten group or topic: lanes are named {group}.{topic}.{lane}",
    ),
    (
        "allow_hosts without the url's host",
        ROUTE + 'allow_hosts = ["payments"]\n',
        "line 9: route[payments].target.allow_hosts: does not list the host of the target's own url, 127.0.0.1",
        "add '127.0.0.1' to the list, or leave it out",
    ),
]


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
target = { kind = "python", handler = "a:b", timeout = "1h" }
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
        (
            '  line 7: route[good].target.timeout = "1h": must end 3s before the claim\'s lease of 30s, '
            "or another worker may start the same message (I18)"
        ),
        '      set timeout to at most "27s", or a longer claims.lease',
        "  line 11: route[bad].concurrency = 0: must be at least 1",
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


def test_what_will_surprise_someone_is_warned_of(tmp_path: Path) -> None:
    short = ROUTE + '[route.claims]\nttl = "1d"\n'
    assert config_warnings(loaded(tmp_path, short)) == [
        (
            "route[payments].claims.ttl: claims live 1d, but dead letters are kept 6d: a late replay may repeat an "
            "effect (W4, I19); lengthen claims.ttl or shorten lanes.retention"
        )
    ]
    shared = ROUTE + ROUTE.replace('"payments"\n', '"b"\ngroup = "payments"\n', 1).replace("orders.placed", "x")
    assert config_warnings(loaded(tmp_path, shared)) == [
        (
            "group 'payments' is used by routes of 2 topics: a rebalance of one pauses the others; give each "
            "route its own group"
        )
    ]
    assert config_warnings(loaded(tmp_path, "")) == ["no [[route]] is configured: a worker would have nothing to do"]


def test_every_documented_example_of_a_problem_fails_when_mended(tmp_path: Path) -> None:
    """The cases above are told for their own mistake only: the same file without it is read."""
    assert loaded(tmp_path, ROUTE).routes[0].name == "payments"
    mended: Any = loaded(tmp_path, ROUTE + 'timeout = "27s"\n[route.shutdown]\ndrain = "54s"\n')
    assert (mended.routes[0].target.timeout_ms, mended.routes[0].shutdown.drain_ms) == (27_000, 54_000)
