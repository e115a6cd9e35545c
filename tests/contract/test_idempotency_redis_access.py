"""How the store gets at a real Redis: rights, passwords, TLS, addresses; and that no secret is ever shown."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claim_calls import LONG_MS, a_request, claim, granted, settle, view
from claim_labs import RedisLab
from pydantic import SecretStr
from redis.asyncio import Redis

from broker_bridge.core.claim import ClaimState, ClaimStatus, SettleKind, SettleStatus
from broker_bridge.errors import ConfigError, StoreError, UnsafeSettingsError
from broker_bridge.idempotency.redis import RedisStore
from broker_bridge.stack.ports import free_port
from broker_bridge.stack.redis_server import RedisServer

SECRET = "s3cret-canary"


async def test_a_user_of_the_prefix_alone_is_enough(own_redis: RedisServer, raw: Any) -> None:
    commands = ["+ping", "+info", "+evalsha", "+eval", "+script|load", "+get", "+set", "+time"]
    await raw.execute_command("ACL", "SETUSER", "bridge", "reset", "on", f">{SECRET}", "~bb:*", *commands)
    try:
        url = own_redis.url.replace("redis://", f"redis://bridge:{SECRET}@")
        store = RedisStore(url)
        await store.start()
        lab = RedisLab(store, raw, f"payments-{uuid.uuid4().hex[:8]}")
        request = a_request()
        assert await settle(lab, request, await granted(lab, request), SettleKind.COMPLETE) is SettleStatus.OK
        assert (await view(lab, request)).state is ClaimState.COMPLETED
        assert await store.tally("http://127.0.0.1:9100", 1, 0, window_ms=LONG_MS) == (1, 0)
        await store.stop()
        elsewhere = RedisStore(url, prefix="other")
        with pytest.raises(StoreError, match="NoPermission") as caught:
            await elsewhere.start()
        with pytest.raises(StoreError, match="NoPermission"):
            await elsewhere.claim(lab.group, [request], lease_ms=LONG_MS)
        assert SECRET not in f"{caught.value} {caught.value.problem()} {caught.value!r}"
        await elsewhere.stop()
        await raw.execute_command("ACL", "SETUSER", "bridge", "-info")
        with pytest.raises(UnsafeSettingsError, match="may not read the eviction policy"):
            await RedisStore(url).start()
    finally:
        await raw.execute_command("ACL", "DELUSER", "bridge")


async def test_a_wrong_password_is_said_once_and_never_shown(own_redis: RedisServer, raw: Any) -> None:
    await raw.config_set("requirepass", "right")
    try:
        right = RedisStore(own_redis.url, password=SecretStr("right"))
        await right.start()
        await right.stop()
        await raw.acl_log_reset()
        wrong = RedisStore(own_redis.url, password=SecretStr(SECRET), retries=3)
        with pytest.raises(StoreError) as caught:
            await wrong.start()
        assert SECRET not in f"{caught.value} {caught.value.problem()} {caught.value!r} {wrong!r}"
        assert [entry["count"] for entry in await raw.acl_log()] == [1]
    finally:
        await raw.config_set("requirepass", "")


def openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


async def test_tls_checks_certificate_and_host_name(start_redis: Callable[[], RedisServer], tmp_path: Path) -> None:
    server = start_redis()
    one_day = ("-days", "1", "-nodes", "-newkey", "rsa:2048")
    openssl(tmp_path, "req", "-x509", *one_day, "-keyout", "key.pem", "-out", "cert.pem",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")  # fmt: skip
    port, files = free_port(), {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    async with Redis.from_url(server.url) as plain:
        raw: Any = plain
        await raw.execute_command(
            "CONFIG", "SET", "tls-cert-file", files["cert"], "tls-key-file", files["key"],
            "tls-ca-cert-file", files["cert"], "tls-auth-clients", "no", "tls-port", str(port),
        )  # fmt: skip
        store = RedisStore(f"rediss://localhost:{port}/0", ca_file=files["cert"])
        await store.start()
        assert (await claim(RedisLab(store, raw, "payments"), a_request())).status is ClaimStatus.GRANTED
        await store.stop()
        with pytest.raises(StoreError, match=r"(?i)certificate"):
            await RedisStore(f"rediss://localhost:{port}/0", retries=0).start()
        with pytest.raises(StoreError, match=r"(?i)certificate"):
            await RedisStore(f"rediss://127.0.0.1:{port}/0", ca_file=files["cert"], retries=0).start()
    server.stop()


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (f"redis://user:{SECRET}@127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
        (f"rediss://:{SECRET}@127.0.0.1:1/2?password={SECRET}", "rediss://127.0.0.1:1/2"),
    ],
)
async def test_nothing_listens(url: str, where: str) -> None:
    store = RedisStore(url, retries=1)
    with pytest.raises(StoreError) as caught:
        await store.start()
    assert caught.value.where == where
    assert SECRET not in str(caught.value)
    await store.stop()


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="not a Redis url") as caught:
        RedisStore(f"user:{SECRET}@host:6379")
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match="prefix"):
        RedisStore("redis://h", prefix="a{b}")
    with pytest.raises(ConfigError, match="buckets"):
        RedisStore("redis://h", buckets=0)
    with pytest.raises(ConfigError, match="evictions"):
        RedisStore("redis://h", allow_unsafe=["evictions"])
