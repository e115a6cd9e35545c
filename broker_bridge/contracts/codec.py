"""Values to framed Avro bytes and back.

Readers and writers are compiled once for each schema (pair) and kept; see ``reader_compiler`` and ``writer_compiler``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.framing import ID, MAGIC, PREFIX_BYTES, SchemaMark, WireForm, peek
from broker_bridge.contracts.guards import DEFAULT_MAX_ITEMS, DEFAULT_MAX_VALUE_BYTES, Limits
from broker_bridge.contracts.naming import SubjectNaming
from broker_bridge.contracts.reader_compiler import Reader, compile_reader
from broker_bridge.contracts.schema_marks import MarkedContracts, mark_of, the_one
from broker_bridge.contracts.source import SchemaSource
from broker_bridge.contracts.upcasters import Upcasters
from broker_bridge.contracts.upcasting import upcasting_reader
from broker_bridge.contracts.writer_compiler import Writer, compile_writer
from broker_bridge.errors import (
    ContractError,
    IncompatibleError,
    MalformedError,
    SchemaUnknownError,
    ValueInvalidError,
)
from broker_bridge.headers import VALUE_SCHEMA_ID
from broker_bridge.message import Header, SchemaRef

Encodable = Mapping[str, Any] | BaseModel
"""What can be encoded: a plain mapping, or a pydantic model (its fields as Python values, not as JSON)."""
Octets = bytes | bytearray | memoryview
"""What can be decoded."""


class Decode(Protocol):
    """Decodes values for one reader, in one form."""

    def __call__(self, value: Octets, schema_header: bytes | None = None, /) -> Decoded:
        """The value; ``schema_header`` is its record's header ``__value_schema_id``, where there is one."""


class Encoded(NamedTuple):
    """A value as it goes into a record: its bytes, the headers that belong to them, and its contract."""

    value: bytes
    headers: tuple[Header, ...]
    contract: Contract


class Decoded(NamedTuple):
    """A decoded value and the schema it was *written* under."""

    value: dict[str, Any]
    schema: SchemaRef


class Codec:
    """Encodes and decodes under the contracts of ``source``. One instance serves a process; it holds no open
    resource.

    ``naming`` says under which subject a topic's records are found (``contract_for``); ``upcasters`` lead old values to
    their reader's version. Raises ConfigError where those have a gap, or, without ``drafts``, lead to a version that is
    not registered yet.
    """

    def __init__(
        self,
        source: SchemaSource,
        *,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        max_items: int = DEFAULT_MAX_ITEMS,
        naming: SubjectNaming = SubjectNaming.RECORD,
        upcasters: Upcasters | None = None,
        drafts: bool = False,
    ) -> None:
        self.source = source
        self.naming = naming
        self.upcasters = upcasters or Upcasters()
        self.upcasters.check(source.versions, drafts=drafts)
        self.limits = Limits(max_value_bytes=max_value_bytes, max_items=max_items)
        self._marked = MarkedContracts(source)
        self._decoders: dict[tuple[Contract | None, Form], Decode] = {}
        self._refused: dict[tuple[SchemaMark, Contract | None, Form], IncompatibleError] = {}
        self._own_readers: dict[tuple[Contract, Form], Reader] = {}
        self._writers: dict[tuple[Contract, Form, WireForm], tuple[Writer, bytes, tuple[Header, ...]]] = {}

    def contract_for(self, topic: str, name: str, version: int | None = None) -> Contract:
        """The contract of a topic's values: ``name`` is the record's full name, looked up as ``naming`` says, or a
        subject as it is called, where it has a dash (no Avro name has). Raises SchemaUnknownError."""
        if "-" in name:
            return self.source.get(name, version)
        found = self.source.get(self.naming.subject(topic, name), version)
        if found.record_name != name:
            raise SchemaUnknownError(
                f"{found.subject} is a contract for {found.record_name}, not for {name}", where=found.where
            )
        return found

    def encode_for(
        self, topic: str, name: str, version: int | None, value: Encodable, wire_form: WireForm = WireForm.CONFLUENT
    ) -> Encoded:
        """A value in PYTHON form as it goes to a topic, under ``contract_for`` those. Raises as ``encode`` does."""
        contract = self.contract_for(topic, name, version)
        write, start, headers = self._writer(contract, Form.PYTHON, wire_form)
        return Encoded(self._checked(write(_plain(value), start)), headers, contract)

    def encode(self, subject: str, version: int | None, value: Encodable) -> bytes:
        """Framed bytes of a value in PYTHON form, under one version of a contract (None: the latest).

        Integers are also taken for timestamps, dates and times. Raises ValueInvalidError naming the field: missing,
        unknown, of the wrong type, out of range, a naive datetime, a text that is no UUID, a decimal of too many
        digits;
        SchemaUnknownError for subject or version.
        """
        write, start, _ = self._writer(self.source.get(subject, version), Form.PYTHON)
        return self._checked(write(_plain(value), start))

    def encoder(
        self, contract: Contract, *, json_ready: bool = False, wire_form: WireForm = WireForm.CONFLUENT
    ) -> Callable[[Encodable], bytes]:
        """``encode`` (or ``encode_json_ready``) for one contract, looked up once. ``schema_headers`` go with it."""
        write, start, _ = self._writer(contract, Form.JSON if json_ready else Form.PYTHON, wire_form)
        limit = self.limits.max_value_bytes

        def encode(value: Encodable) -> bytes:
            framed = write(value if type(value) is dict else _plain(value), start)
            return framed if len(framed) <= limit else self._checked(framed)

        return encode

    def schema_headers(self, contract: Contract, wire_form: WireForm) -> tuple[Header, ...]:
        """The headers that a record needs whose value was written in that form."""
        return self._writer(contract, Form.PYTHON, wire_form)[2]

    def encode_batch(self, subject: str, version: int | None, values: Iterable[Encodable]) -> list[bytes]:
        """``encode`` for many values of one contract. All or nothing: the first bad value raises, naming its number."""
        write, start, _ = self._writer(self.source.get(subject, version), Form.PYTHON)
        framed: list[bytes] = []
        try:
            for value in values:
                framed.append(  # noqa: PERF401  a comprehension would lose the number of the bad value
                    self._checked(write(_plain(value), start))
                )
        except ValueInvalidError as error:
            raise ValueInvalidError(
                f"value {len(framed)} of the batch: {error.detail}", where=error.where, remedy=error.remedy
            ) from error
        return framed

    def encode_json_ready(self, subject: str, version: int | None, value: Mapping[str, Any]) -> bytes:
        """Framed bytes of a value in JSON form: a target's answer under its output contract.

        Missing fields take their defaults. Unknown fields are ignored: a target may answer with more than the contract
        holds. Raises ValueInvalidError naming the field, SchemaUnknownError.
        """
        write, start, _ = self._writer(self.source.get(subject, version), Form.JSON)
        return self._checked(write(value, start))

    def decode(
        self,
        value: Octets,
        *,
        reader: Contract | None = None,
        logical: bool = True,
        schema_header: bytes | None = None,
    ) -> Decoded:
        """A value of any wire form in PYTHON form (WIRE form with ``logical=False``), resolved to ``reader`` where one
        is given. ``schema_header`` is the record's header ``__value_schema_id``, where it has one.

        Raises MalformedError (the bytes are not what the schema says, or cost more than the limits),
        SchemaUnknownError (nobody registered the id), IncompatibleError (writer and reader do not resolve), UpcastError
        (an upcaster failed).
        """
        return self.decoder(reader, Form.PYTHON if logical else Form.WIRE)(value, schema_header)

    def decoder(self, reader: Contract | None = None, form: Form = Form.PYTHON) -> Decode:
        """``decode`` for one reader and form, looked up once."""
        found = self._decoders.get((reader, form))
        if found is None:
            found = self._decoders[(reader, form)] = self._new_decoder(reader, form)
        return found

    def decode_json_ready(
        self, value: Octets, *, reader: Contract | None = None, schema_header: bytes | None = None
    ) -> Decoded:
        """As ``decode``, in JSON form, ready for ``json.dumps``."""
        return self.decoder(reader, Form.JSON)(value, schema_header)

    def decode_batch(
        self, values: Iterable[Octets], *, reader: Contract | None = None, form: Form = Form.PYTHON
    ) -> list[Decoded | ContractError]:
        """``decode`` for many values without headers. A bad one does not spoil the others: its error stands in its
        place."""
        decoded: list[Decoded | ContractError] = []
        for value in values:
            try:
                decoded.append(self.decoder(reader, form)(value))
            except ContractError as error:
                decoded.append(error)
        return decoded

    def to_json_ready(self, value: Encodable, contract: Contract) -> dict[str, Any]:
        """A value in PYTHON form as JSON form. Raises ValueInvalidError where it does not fit the contract."""
        return self._converted(value, contract, Form.PYTHON, Form.JSON)

    def from_json_ready(self, contract: Contract, value: Mapping[str, Any]) -> dict[str, Any]:
        """A value in JSON form as PYTHON form: defaults filled, unknown fields left out. Raises ValueInvalidError."""
        return self._converted(value, contract, Form.JSON, Form.PYTHON)

    def _converted(self, value: Encodable, contract: Contract, given: Form, wanted: Form) -> dict[str, Any]:
        """Through the bytes: one set of rules for what fits, and the result is what a reader will see."""
        write, start, _ = self._writer(contract, given)
        framed = self._checked(write(_plain(value), start))
        read = self._own_readers.get((contract, wanted))
        if read is None:
            read = self._own_readers[(contract, wanted)] = compile_reader(contract, None, wanted, self.limits)
        made: dict[str, Any] = read(framed, PREFIX_BYTES)
        return made

    def _new_decoder(self, reader: Contract | None, form: Form) -> Decode:
        limit = self.limits.max_value_bytes
        readers: dict[SchemaMark, tuple[Reader, SchemaRef]] = {}
        id_of = ID.unpack_from

        def decode(value: Octets, schema_header: bytes | None = None, /) -> Decoded:
            if len(value) > limit:
                raise MalformedError(
                    f"the value is {len(value)} bytes, the limit is {limit}",
                    remedy="raise max_value_bytes if values of this size are meant",
                )
            if not isinstance(value, bytes):
                value = bytes(value)
            mark: SchemaMark
            if schema_header is None and len(value) >= PREFIX_BYTES and value[0] == MAGIC and value[1] < 128:
                mark, start = id_of(value, 1)[0], PREFIX_BYTES  # as peek, without the call: nearly every value
            else:
                mark, start = peek(value, schema_header)
            found = readers.get(mark)
            if found is None:
                found = readers[mark] = self._reader(mark, reader, form)
            return Decoded(found[0](value, start), found[1])

        return decode

    def _reader(self, mark: SchemaMark, reader: Contract | None, form: Form) -> tuple[Reader, SchemaRef]:
        """Compiled for the pair; one that does not resolve is remembered, for it may be asked for again."""
        key = (mark, reader, form)
        refused = self._refused.get(key)
        if refused is not None:
            raise IncompatibleError(refused.detail, remedy=refused.remedy, where=refused.where)
        writer = self._contract_of(mark)
        try:
            compiled = self._compiled(writer, writer if reader is None else reader, form)
        except IncompatibleError as error:
            self._refused[key] = error
            raise
        return compiled, writer.ref

    def _compiled(self, writer: Contract, reader: Contract, form: Form) -> Reader:
        steps = self.upcasters.between(writer, reader)
        if not steps:
            return compile_reader(writer, None if reader is writer else reader, form, self.limits)

        def version_of(version: int) -> Contract:  # the reader's own may be a draft
            return reader if version == reader.version else self.source.get(writer.subject, version)

        return upcasting_reader(writer, reader, form, self.limits, steps, version_of)

    def _contract_of(self, mark: SchemaMark) -> Contract:
        found = self._marked.find(mark)
        return found[0] if len(found) == 1 else the_one(mark, found, self.upcasters)

    def _writer(
        self, contract: Contract, form: Form, wire_form: WireForm = WireForm.CONFLUENT
    ) -> tuple[Writer, bytes, tuple[Header, ...]]:
        """Writes a value; the bytes in front of it, and the headers beside it."""
        found = self._writers.get((contract, form, wire_form))
        if found is None:
            mark = mark_of(contract, wire_form)
            if wire_form is WireForm.SINGLE_OBJECT:
                self._contract_of(mark)  # refused here, and not by whoever reads it
            in_header = wire_form is WireForm.HEADER
            found = self._writers[(contract, form, wire_form)] = (
                compile_writer(contract, form, self.limits),
                b"" if in_header else mark,
                ((VALUE_SCHEMA_ID, mark),) if in_header else (),
            )
        return found

    def _checked(self, framed: bytes) -> bytes:
        if len(framed) > self.limits.max_value_bytes:
            raise ValueInvalidError(
                f"the encoded value is {len(framed)} bytes, the limit is {self.limits.max_value_bytes}",
                remedy="send less, or a reference to where the rest is",
            )
        return framed


def _plain(value: Encodable) -> Mapping[str, Any]:
    """The fields of a model; dicts first, because asking whether a value is a model costs 0.4 µs."""
    return value.model_dump() if type(value) is not dict and isinstance(value, BaseModel) else value
