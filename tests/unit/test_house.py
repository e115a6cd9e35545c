"""Rules of the house that no linter knows: sizes, names, one list of error codes, no import cycles."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import broker_bridge
from broker_bridge import errors
from broker_bridge.errors import BridgeError

ROOT = Path(__file__).parents[2]
LONGEST_MODULE = 400
LONGEST_FUNCTION = 70
HOUSED = ("broker_bridge", "tests", "examples", "benchmarks")


def python_files(root: Path = ROOT) -> list[Path]:
    found = [path for folder in HOUSED for path in (root / folder).rglob("*.py")]
    return [path for path in found if not {"target", ".venv", "node_modules"} & set(path.parts)]


def too_long(path: Path) -> Iterator[str]:
    """Functions and the module itself beyond their limit."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > LONGEST_MODULE:
        yield f"{path.name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{path.name}: {node.name} has {length} lines"


def shipped_modules() -> list[str]:
    return [info.name for info in pkgutil.walk_packages(broker_bridge.__path__, "broker_bridge.")]


def classes_by_code() -> dict[str, list[str]]:
    """Every code with the classes that say it is theirs, of all shipped modules."""
    for name in shipped_modules():
        importlib.import_module(name)
    found: dict[str, list[str]] = defaultdict(list)
    pending: list[type[BridgeError]] = [BridgeError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if "code" in vars(kind) and kind.__module__.startswith("broker_bridge."):
            found[kind.code].append(kind.__name__)
    return found


def test_no_module_or_function_is_too_long() -> None:
    assert len(python_files()) > 50
    assert [problem for path in python_files() for problem in too_long(path)] == []


def test_what_is_too_long_is_found(tmp_path: Path) -> None:
    module = tmp_path / "broker_bridge" / "long.py"
    module.parent.mkdir()
    module.write_text("def f():\n" + "    x = 1\n" * 70 + "\n" * 400, encoding="utf-8")
    assert list(too_long(module)) == ["long.py: 471 lines", "long.py: f has 71 lines"]


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common", "shared"}
    assert [path for path in python_files() if drawers & {path.stem, *path.relative_to(ROOT).parts[:-1]}] == []


def test_error_codes_are_unique() -> None:
    assert {code: names for code, names in classes_by_code().items() if len(names) > 1} == {}


def test_two_classes_with_one_code_are_found() -> None:
    class TwinError(BridgeError):
        code = "usage"

    TwinError.__module__ = "broker_bridge.twin"
    try:
        assert sorted(classes_by_code()["usage"]) == ["TwinError", "UsageError"]
    finally:
        TwinError.__module__ = __name__


def test_error_codes_are_all_in_the_one_tree_and_documented() -> None:
    documented = (errors.__doc__ or "").split()
    for code, (name, *_) in classes_by_code().items():
        if name not in ("BridgeError", "DeliveryError"):
            assert code in documented, f"{code} is not in the tree that broker_bridge/errors opens with"
        assert hasattr(errors, name), f"{name} is not in broker_bridge/errors"


def test_errors_say_what_they_are_in_a_title() -> None:
    titles = [kind.title for kind in errors.error_codes().values() if kind.__module__.startswith(errors.__name__)]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("marker", ["/" + "work/", "/" + "tmp/v/"])
def test_no_path_of_one_machine_is_shipped(marker: str) -> None:
    kinds = {".py", ".toml", ".txt", ".md", ".lua", ".yml", ".yaml", ".avsc", ".jsonl", ".go", ".rs", ".sh"}
    folders = ("broker_bridge", "schemas", "compose", "docs", "examples", "benchmarks", "tests")
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    shipped = [path for path in files if path.suffix in kinds and "target" not in path.parts]
    assert [path for path in shipped if marker in path.read_text(encoding="utf-8", errors="replace")] == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = grimp.build_graph("broker_bridge", exclude_type_checking_imports=True, cache_dir=None)
    cycles: list[tuple[str, ...]] = []
    for importer in sorted(graph.modules):
        for imported in graph.find_modules_directly_imported_by(importer):
            chain = graph.find_shortest_chain(importer=imported, imported=importer)
            if chain is not None:
                cycles.append((importer, *chain))
    assert cycles == []
