"""Up, down and status of the stack in a folder, whichever engine runs it."""

from __future__ import annotations

from pathlib import Path

from broker_bridge.errors import StackError
from broker_bridge.stack import docker
from broker_bridge.stack.kafka.jars import cached_jars
from broker_bridge.stack.local import LocalStack
from broker_bridge.stack.prerequisites import Progress, can_install, missing_tools
from broker_bridge.stack.registry.archive import cached_runner
from broker_bridge.stack.spec import StackSpec, StackStatus
from broker_bridge.stack.state import exclusive, read_state, remove_data, write_state


def up(spec: StackSpec, *, progress: Progress) -> StackStatus:
    """Start it and say how it is. Raises StackError and its kin."""
    if runs_natively(spec):
        return LocalStack(spec, progress=progress).start().status()
    with exclusive(spec.folder):
        previous = read_state(spec.folder)
        if previous is not None and (living := previous.living()):
            detail = f"a native stack runs here already: {', '.join(living)}"
            raise StackError(detail, where=str(spec.folder), remedy="broker-bridge stack down")
        state = docker.start(spec, previous, progress=progress)
        write_state(spec.folder, state)
    return docker.status(state, spec.folder)


def runs_natively(spec: StackSpec) -> bool:
    """With engine auto: natively wherever that is possible, in containers where only they are."""
    if spec.engine != "auto":
        return spec.engine == "native"
    need_maven = cached_jars() is None or (spec.registry and cached_runner() is None)
    possible = not missing_tools(need_maven=need_maven) or (spec.install and can_install())
    return possible or not docker.engine_answers()


def down(data_dir: Path, *, wipe: bool, progress: Progress) -> bool:
    """End what runs, remove the data if asked to; False when nothing ran. Raises StackError."""
    folder = data_dir.expanduser().absolute()
    state = read_state(folder)
    if state is None:
        return False
    if state.engine == "docker":
        docker.stop(state, wipe=wipe)
        if wipe:
            remove_data(folder)
        return True
    ran = bool(state.living())
    stack = LocalStack.attach(folder, progress=progress)
    if wipe:
        stack.wipe()
    else:
        stack.stop()
    return ran


def status(data_dir: Path) -> StackStatus:
    """How the stack in this folder is now. Raises StackError when its state file is damaged."""
    folder = data_dir.expanduser().absolute()
    state = read_state(folder)
    if state is None:
        return StackStatus(state="stopped", data_dir=str(folder))
    if state.engine == "docker":
        return docker.status(state, folder)
    return LocalStack.attach(folder).status()
