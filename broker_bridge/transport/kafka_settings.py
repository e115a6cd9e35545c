"""How to reach Kafka and how much to ask of it. Every client default of aiokafka that would lose work is set elsewhere,
beside the client it belongs to; what is here may differ between deployments.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from broker_bridge.errors import ConfigError, UnsafeSettingsError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]


class KafkaSettings(BaseModel):
    """Connection, security, timeouts and bounds. ``repr`` masks the password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap: str = "127.0.0.1:9092"
    """``host:port``, several separated by commas."""
    client_id: str = "broker-bridge"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    allow_plaintext: bool = False
    """Speak without TLS to brokers that are not on this machine."""
    session_timeout_ms: int = Field(45_000, ge=1_000)
    """Without a heartbeat for this long the group gives our partitions to others."""
    heartbeat_interval_ms: int = Field(3_000, ge=100)
    rebalance_timeout_ms: int = Field(60_000, ge=1_000)
    """How long ``on_revoked`` may take."""
    max_poll_interval_ms: int = Field(300_000, ge=1_000)
    """Without a poll for this long we leave the group by ourselves."""
    request_timeout_ms: int = Field(40_000, ge=1_000)
    max_partition_fetch_bytes: int = Field(1_048_576, ge=1_024)
    fetch_max_bytes: int = Field(16_777_216, ge=1_024)
    """Bounds what one broker's answer holds in memory, before decompression: gzip may blow up a thousandfold."""
    fetch_max_wait_ms: int = Field(500, ge=1)
    compression: Compression = "none"
    linger_ms: int = Field(0, ge=0)
    """Waiting for more before a batch goes out. Batches given by ``send_batch`` are complete and never wait."""
    max_request_bytes: int = Field(1_000_000, ge=1_024, le=104_857_600)
    """The largest record and the largest batch of a partition. Brokers take 1 048 588 bytes unless told otherwise."""

    def refuse_unsafe(self) -> None:
        """Raise ``UnsafeSettingsError`` for plaintext beyond loopback, ``ConfigError`` for what is missing."""
        if self.security_protocol.startswith("SASL") and (self.username is None or self.password is None):
            raise ConfigError(f"{self.security_protocol} needs username and password", where="[kafka] username")
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ConfigError("heartbeat_interval_ms must be at most a third of session_timeout_ms", where="[kafka]")
        if self.security_protocol.endswith("SSL") or self.allow_plaintext:
            return
        far = [server for server in self.bootstrap.split(",") if not _is_loopback(server.strip())]
        if far:
            raise UnsafeSettingsError(
                f"{self.security_protocol} to {', '.join(far)} sends records and passwords unencrypted",
                where="[kafka] security_protocol",
                remedy="use SSL or SASL_SSL, or set allow_plaintext = true if the network is trusted",
            )

    def connection_options(self) -> dict[str, Any]:
        """The keyword arguments that every aiokafka client takes. Raises ``ConfigError`` for unreadable TLS files."""
        options: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",")],
            "client_id": self.client_id,
            "request_timeout_ms": self.request_timeout_ms,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password.get_secret_value() if self.password is not None else None
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        """Certificates and host names are always checked."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(str(file) for file in (self.ca_file, self.cert_file, self.key_file) if file)
            raise ConfigError(f"TLS files cannot be used: {error}", where=named or "[kafka]") from error
        return context


def _is_loopback(server: str) -> bool:
    host = server.rpartition(":")[0].strip("[]") or server
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
