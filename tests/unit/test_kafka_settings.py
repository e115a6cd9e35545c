"""Settings that would send passwords in the clear, or cannot work, are refused before anything connects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors as kafka
from pydantic import SecretStr, ValidationError

from broker_bridge import errors
from broker_bridge.transport.kafka import KafkaSettings, KafkaTransport
from broker_bridge.transport.kafka_errors import mapped, translated


@pytest.mark.parametrize("bootstrap", ["127.0.0.1:9092", "localhost:9092", "[::1]:9092", "127.0.0.1:1,localhost:2"])
def test_plaintext_on_this_machine(bootstrap: str) -> None:
    KafkaTransport(KafkaSettings(bootstrap=bootstrap))


@pytest.mark.parametrize("bootstrap", ["kafka:9092", "10.0.0.1:9092", "localhost:9092,kafka:9092", "localhost.evil:1"])
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_plaintext_beyond_it_must_be_allowed_by_name(bootstrap: str, protocol: Any) -> None:
    settings = KafkaSettings(
        bootstrap=bootstrap, security_protocol=protocol, username="u", password=SecretStr("canary-secret")
    )
    with pytest.raises(errors.UnsafeSettingsError, match="allow_plaintext") as caught:
        KafkaTransport(settings)
    assert "canary-secret" not in str(caught.value)
    KafkaTransport(settings.model_copy(update={"allow_plaintext": True}))


def test_tls_needs_no_permission_and_checks_names() -> None:
    settings = KafkaSettings(
        bootstrap="kafka:9093", security_protocol="SASL_SSL", username="u", password=SecretStr("p")
    )
    KafkaTransport(settings)
    context = settings.connection_options()["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert settings.connection_options()["sasl_plain_password"] == "p"


def test_secrets_are_masked() -> None:
    assert "canary-secret" not in repr(KafkaSettings(password=SecretStr("canary-secret")))


def test_what_cannot_work() -> None:
    with pytest.raises(errors.ConfigError, match="username"):
        KafkaTransport(KafkaSettings(security_protocol="SASL_SSL"))
    with pytest.raises(errors.ConfigError, match="heartbeat"):
        KafkaTransport(KafkaSettings(session_timeout_ms=6_000, heartbeat_interval_ms=5_000))
    with pytest.raises(ValidationError):
        KafkaSettings(compression="rar")  # type: ignore[arg-type]


def test_unreadable_tls_files_are_named(tmp_path: Path) -> None:
    settings = KafkaSettings(security_protocol="SSL", ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(errors.ConfigError) as caught:
        settings.connection_options()
    assert caught.value.where == str(tmp_path / "none.pem")


@pytest.mark.parametrize(
    ("raised", "expected", "retriable"),
    [
        (kafka.CommitFailedError(), errors.LeaseLostError, False),
        (kafka.IllegalStateError("not assigned"), errors.LeaseLostError, False),
        (kafka.UnknownMemberIdError(), errors.LeaseLostError, False),
        (kafka.MessageSizeTooLargeError(), errors.RecordTooLargeError, False),
        (kafka.UnknownTopicOrPartitionError(), errors.TopicMissingError, False),
        (kafka.TopicAuthorizationFailedError("t"), errors.TransportError, True),
        (kafka.KafkaConnectionError("gone"), errors.TransportError, True),
        (TimeoutError(), errors.TransportError, True),
        (ConnectionResetError("reset"), errors.TransportError, True),
    ],
)
def test_errors_are_mapped(raised: Exception, expected: type[errors.BridgeError], retriable: bool) -> None:
    found = mapped(raised, where="here")
    assert type(found) is expected
    assert found.retriable is retriable
    assert found.where == "here"
    with pytest.raises(expected), translated("here"):
        raise raised


def test_own_errors_and_foreign_bugs_pass() -> None:
    with pytest.raises(errors.TopicMissingError), translated():
        raise errors.TopicMissingError("mine")
    with pytest.raises(KeyError), translated():
        raise KeyError("a bug")
