"""What generated models are built on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class EventModel(BaseModel):
    """A pydantic model whose field names are those of the contract, also where Python has to call one otherwise.

    A contract's field ``class`` is ``class_`` in Python and ``class`` in the value that is encoded.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)
