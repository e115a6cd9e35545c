"""Pydantic models from contracts, by datamodel-code-generator (the extra ``models``).

It is run as a program: its command line is what it keeps stable.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from broker_bridge.contracts.contract import Contract
from broker_bridge.errors import ContractError, ToolMissingError

_PATIENCE_S: Final = 120.0
_OPTIONS: Final = (
    *("--input-file-type", "avro"),
    *("--output-model-type", "pydantic_v2.BaseModel"),
    *("--base-class", "broker_bridge.contracts.event_model.EventModel"),
    *("--target-python-version", "3.11"),
    *("--formatters", "builtin"),
    *("--enum-field-as-literal", "none"),
    *("--deserialize-default-values", "enum"),
    "--disable-timestamp",
    "--strict-nullable",
    "--use-annotated",
    "--use-double-quotes",
    "--use-schema-description",
    "--use-field-description",
)


def generate_models(contract: Contract, generator: str = "datamodel_code_generator") -> str:
    """Source of a module with a model for the contract's record, and one for each type in it.

    ``generator`` is the module that is run. Raises ToolMissingError where it is not installed, ContractError where it
    cannot do the schema.
    """
    if importlib.util.find_spec(generator) is None:
        raise ToolMissingError(
            "the generator of models is not installed",
            remedy="pip install 'broker-bridge[models]'",
            where=contract.where,
        )
    with tempfile.TemporaryDirectory() as folder:
        file, header = Path(folder) / "schema.avsc", Path(folder) / "header"
        file.write_text(contract.text, encoding="utf-8")
        header.write_text(_header(contract), encoding="utf-8")
        command = (sys.executable, "-m", generator, "--input", str(file), *_OPTIONS)
        ended = subprocess.run(  # noqa: S603  our own interpreter; the schema is a file, not an argument
            [*command, "--custom-file-header-path", str(header)],
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_PATIENCE_S,
        )
    if ended.returncode != 0:
        last = ended.stderr.strip().rpartition("\n")[2] or f"status {ended.returncode}"
        raise ContractError(f"the generator of models cannot do this schema: {last}", where=contract.where)
    return ended.stdout


def _header(contract: Contract) -> str:
    what = f"{contract.subject} version {contract.version}"
    return f'"""{what}. Written by `broker-bridge schemas model`: change the schema, not this."""\n'
