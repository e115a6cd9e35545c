"""Schemas, and bytes that claim to follow one."""

from __future__ import annotations

from broker_bridge.errors.base import BridgeError


class ContractError(BridgeError):
    """Something about a schema or about bytes that claim to follow one."""

    code = "contract_invalid"
    title = "Contract is broken"


class SchemaUnknownError(ContractError):
    """No schema has this id, subject or version."""

    code = "schema_unknown"
    title = "Schema is not known"
    default_remedy = "register the schema, or check which producer writes this id"


class FolderBusyError(ContractError):
    """Another process holds the folder of schemas; nothing was changed."""

    code = "schemas_busy"
    title = "Folder of schemas is in use"
    retriable = True
    default_remedy = "see which process hangs: fuser -v FOLDER"


class MalformedError(ContractError):
    """The bytes do not decode under the schema they name."""

    code = "avro_malformed"
    title = "Bytes are not valid Avro"


class ValueInvalidError(ContractError):
    """The value does not fit the schema; nothing was written."""

    code = "value_invalid"
    title = "Value does not fit the schema"


class IncompatibleError(ContractError):
    """The writer's schema cannot be resolved to the reader's."""

    code = "schema_incompatible"
    title = "Schemas do not resolve"


class UpcastError(ContractError):
    """An upcaster raised, or made a value that its next version does not allow."""

    code = "upcast_failed"
    title = "Upcaster failed"


class HeadersInvalidError(ContractError):
    """A header is missing, malformed or reserved."""

    code = "headers_invalid"
    title = "Headers are not valid"
