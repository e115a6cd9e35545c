"""Every name that leaves the process for an operator: log events, log keys, metrics.

Dashboards and alerts rest on them. Names are only added, never given another meaning.
"""

from __future__ import annotations

from typing import Final

# --- log keys ---------------------------------------------------------------------------------------------------------

TIMESTAMP: Final = "timestamp"
LEVEL: Final = "level"
LOGGER: Final = "logger"
EVENT: Final = "event"
SERVICE: Final = "service"
ROUTE: Final = "route"
GROUP: Final = "group"
TOPIC: Final = "topic"
PARTITION: Final = "partition"
PARTITIONS: Final = "partitions"
OFFSET: Final = "offset"
ORIGIN: Final = "origin"
LANE: Final = "lane"
KEY_HASH: Final = "key_hash"
MESSAGE_ID: Final = "message_id"
CORRELATION_ID: Final = "correlation_id"
TRACE_ID: Final = "trace_id"
REPLAY_ID: Final = "replay_id"
ATTEMPT: Final = "attempt"
CRASHES: Final = "crashes"
TOKEN: Final = "token"  # noqa: S105
"""The fencing token of a claim: a number. A text under this key is masked."""
VERDICT: Final = "verdict"
WORKER: Final = "worker"
PROCESS: Final = "process"
"""The number of a worker process among those that one command runs, from 1."""
PID: Final = "pid"
CODE: Final = "code"
TARGET_CODE: Final = "target_code"
FINGERPRINT: Final = "fingerprint"
ERROR: Final = "error"
ERRORS: Final = "errors"
ERROR_CLASS: Final = "error_class"
REMEDY: Final = "remedy"
STACK: Final = "stack"
REASON: Final = "reason"
STATE: Final = "state"
COUNT: Final = "count"
POLICY: Final = "policy"
GRANTED: Final = "granted"
WRITTEN: Final = "written"
COLLIDED: Final = "collided"
DROPPED: Final = "dropped"
ROW: Final = "row"
WAITING: Final = "waiting"
SET_ASIDE: Final = "set_aside"
OLDEST_MS: Final = "oldest_ms"
BYTES: Final = "bytes"
DELAY_MS: Final = "delay_ms"
DURATION_MS: Final = "duration_ms"
URL: Final = "url"
PATH: Final = "path"
SUBJECT: Final = "subject"
VERSION: Final = "version"
SCHEMA_ID: Final = "schema_id"
SIGNAL: Final = "signal"

FIRST_KEYS: Final = (TIMESTAMP, LEVEL, EVENT, SERVICE, LOGGER, ROUTE)
"""These lead each line, in this order; the others follow by name."""

NEVER_LOGGED: Final = frozenset(
    {
        "key", "value", "payload", "body", "record", "message", "headers", "result", "answer",
        "password", "username", "secret", "token", "authorization", "cookie", "credentials",
    }
)  # fmt: skip
"""Keys whose values are masked whatever they are (I27): what they usually hold is not the log's to keep."""

# --- log events outside the engine (its own are in ``events``) -------------------------------------------------------

CONFIG_LOADED: Final = "config_loaded"
CONFIG_WARNING: Final = "config_warning"
HEALTH_LISTENING: Final = "health_listening"
HEALTH_CHECK_FAILED: Final = "health_check_failed"
OUTBOX_STARTED: Final = "outbox_started"
OUTBOX_RELAYED: Final = "outbox_relayed"
OUTBOX_SET_ASIDE: Final = "outbox_set_aside"
OUTBOX_TOPIC_BLOCKED: Final = "outbox_topic_blocked"
OUTBOX_TOPIC_OPEN: Final = "outbox_topic_open"
OUTBOX_STOPPED: Final = "outbox_stopped"
DATABASE_LOST: Final = "database_lost"
REGISTRY_LOST: Final = "registry_lost"
REGISTRY_FOUND: Final = "registry_found"
SCHEMA_REGISTERED: Final = "schema_registered"
SCHEMA_CACHE_DAMAGED: Final = "schema_cache_damaged"
SCHEMA_CACHE_NOT_WRITTEN: Final = "schema_cache_not_written"

# --- metrics ----------------------------------------------------------------------------------------------------------

PREFIX: Final = "broker_bridge_"

W1_CRASH_TAKEOVER: Final = "w1_crash_takeover"
W2_STALE_COMPLETE: Final = "w2_stale_complete"
W3_CLAIMS_LOST: Final = "w3_claims_lost"
W4_CLAIM_EXPIRED: Final = "w4_claim_expired"
W5_FAILED_OPEN: Final = "w5_failed_open"
WINDOWS: Final = (W1_CRASH_TAKEOVER, W2_STALE_COMPLETE, W3_CLAIMS_LOST, W4_CLAIM_EXPIRED, W5_FAILED_OPEN)
"""Where the published guarantee allows an effect to repeat; each time one opened is counted."""
