"""``bridge.toml``: what it may say (models), how it is read (``load_config``), what it must not say (checks)."""

from __future__ import annotations

from broker_bridge.config.checks import config_warnings, margin_ms
from broker_bridge.config.load import config_from, load_config
from broker_bridge.config.model import (
    BridgeConfig,
    BridgeSection,
    HealthSection,
    KafkaSection,
    LoggingSection,
    ProducerSection,
    RedisSection,
    RegistrySection,
)
from broker_bridge.config.route import (
    BreakerSection,
    ClaimSection,
    ContractSection,
    DeadLetterSection,
    HttpTarget,
    LanesSection,
    OutputSection,
    PythonTarget,
    RetrySection,
    RouteConfig,
    ShutdownSection,
    Target,
    TopicTarget,
)
from broker_bridge.config.types import SecretUrl

__all__ = [
    "BreakerSection",
    "BridgeConfig",
    "BridgeSection",
    "ClaimSection",
    "ContractSection",
    "DeadLetterSection",
    "HealthSection",
    "HttpTarget",
    "KafkaSection",
    "LanesSection",
    "LoggingSection",
    "OutputSection",
    "ProducerSection",
    "PythonTarget",
    "RedisSection",
    "RegistrySection",
    "RetrySection",
    "RouteConfig",
    "SecretUrl",
    "ShutdownSection",
    "Target",
    "TopicTarget",
    "config_from",
    "config_warnings",
    "load_config",
    "margin_ms",
]
