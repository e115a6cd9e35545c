"""The real registry of a stack: it keeps schemas through a crash, and the level that somebody chose."""

from __future__ import annotations

from pathlib import Path

from broker_bridge.stack.ports import free_port
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.registry.archive import cached_runner
from broker_bridge.stack.registry.server import API_PATH, RegistryServer, call
from broker_bridge.stack.server import Surroundings

RECORD = {"schema": '{"type":"record","name":"Kept","fields":[]}'}


def test_schemas_and_the_level_survive_a_crash(apicurio: RegistryServer, tmp_path: Path) -> None:
    """On a server of its own: the shared one stays up."""
    runner = cached_runner()
    assert runner is not None
    server = RegistryServer(
        port=free_port(),
        folder=tmp_path / "registry",
        runtime=lambda: (Path(apicurio.command()[0]), runner),
        surroundings=Surroundings(tied_to=this_process(), boot_deadline_s=120, on_change=lambda: None),
    )
    try:
        server.start()
        assert not is_shared(server, apicurio)
        found = call(server.port, "POST", f"{API_PATH}/subjects/kept-value/versions", RECORD)
        assert found is not None
        assert call(server.port, "PUT", f"{API_PATH}/config", {"compatibility": "FULL"}) is not None
        server.kill()
        assert not server.answers()
        server.start()
        answer = call(server.port, "GET", f"{API_PATH}/schemas/ids/{found['id']}")
        assert answer is not None
        assert "Kept" in answer["schema"]
        assert call(server.port, "GET", f"{API_PATH}/config") == {"compatibilityLevel": "FULL"}
    finally:
        server.stop()
    assert not server.is_running


def is_shared(server: RegistryServer, other: RegistryServer) -> bool:
    return server.instance == other.instance or server.port == other.port
