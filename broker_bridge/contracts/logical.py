"""Logical types: numbers, bytes and texts that stand for times, decimals and UUIDs.

Both directions, each value checked: what does not fit raises ValueError or OverflowError, which the callers turn into
MalformedError (reading) or ValueInvalidError (writing) with the field.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from broker_bridge.contracts.schema_tree import MAX_PRECISION

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  Avro's local timestamps have no zone on purpose
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_US: Final = 86_400_000_000
_US: Final = timedelta(microseconds=1)
# timedelta takes days, seconds, microseconds, milliseconds in this order; by position it costs a quarter less.
_EXACT: Final = Context(prec=MAX_PRECISION + 8)
_FLOAT_WORDS: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def read_timestamp_millis(number: int) -> datetime:
    """Aware, UTC."""
    return _EPOCH + timedelta(0, 0, 0, number)


def read_timestamp_micros(number: int) -> datetime:
    """Aware, UTC."""
    return _EPOCH + timedelta(0, 0, number)


def read_local_timestamp_millis(number: int) -> datetime:
    """Naive: a time on the clock of wherever it is read."""
    return _LOCAL_EPOCH + timedelta(0, 0, 0, number)


def read_local_timestamp_micros(number: int) -> datetime:
    """Naive, as above."""
    return _LOCAL_EPOCH + timedelta(0, 0, number)


def read_date(number: int) -> date:
    """Days since 1970-01-01."""
    return date.fromordinal(_EPOCH_DAY + number)


def read_time_micros(number: int) -> time:
    """Microseconds since midnight."""
    if not 0 <= number < _DAY_US:
        raise ValueError("a time of day lies outside the day")
    return (_LOCAL_EPOCH + timedelta(0, 0, number)).time()


def read_time_millis(number: int) -> time:
    """Milliseconds since midnight."""
    return read_time_micros(number * 1000)


def read_decimal(raw: bytes, limit: int, scale: int) -> Decimal:
    """Two's-complement big-endian unscaled value. ``limit`` is 10 to the precision.

    The bound comes before the conversion to decimal digits, which is quadratic.
    """
    unscaled = int.from_bytes(raw, "big", signed=True)
    if not -limit < unscaled < limit:
        raise ValueError("a decimal has more digits than its precision")
    return Decimal(unscaled).scaleb(-scale, _EXACT)


def read_decimal_text(raw: bytes, limit: int, scale: int) -> str:
    """As ``read_decimal``, as plain text with all digits of the scale."""
    return format(read_decimal(raw, limit, scale), "f")


def read_base64(raw: bytes) -> str:
    """Bytes for JSON."""
    return base64.b64encode(raw).decode("ascii")


def read_float_text(number: float) -> str:
    """The three floats JSON has no number for."""
    if number != number:
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


READERS: Final[dict[str, Any]] = {
    "timestamp-millis": read_timestamp_millis,
    "timestamp-micros": read_timestamp_micros,
    "local-timestamp-millis": read_local_timestamp_millis,
    "local-timestamp-micros": read_local_timestamp_micros,
    "date": read_date,
    "time-millis": read_time_millis,
    "time-micros": read_time_micros,
    "uuid": UUID,
}
"""What makes the Python value of each logical type, decimals apart."""


def write_timestamp_millis(value: Any) -> int:
    """From an aware datetime; microseconds below the millisecond are cut, towards the past."""
    return write_timestamp_micros(value) // 1000


def write_timestamp_micros(value: Any) -> int:
    """From an aware datetime."""
    if not isinstance(value, datetime):
        raise ValueError(f"{type(value).__name__} is no datetime")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError("the datetime has no time zone: it would be taken for local time; use datetime.now(UTC)")
    return (value - _EPOCH) // _US


def write_local_timestamp_millis(value: Any) -> int:
    """From a naive datetime."""
    return write_local_timestamp_micros(value) // 1000


def write_local_timestamp_micros(value: Any) -> int:
    """From a naive datetime."""
    if not isinstance(value, datetime):
        raise ValueError(f"{type(value).__name__} is no datetime")
    if value.tzinfo is not None:
        raise ValueError("the datetime has a time zone, a local timestamp has none")
    return (value - _LOCAL_EPOCH) // _US


def write_date(value: Any) -> int:
    """From a date that is not a datetime."""
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError(f"{type(value).__name__} is no date")
    return value.toordinal() - _EPOCH_DAY


def write_time_micros(value: Any) -> int:
    """From a time of day without zone."""
    if not isinstance(value, time) or value.tzinfo is not None:
        raise ValueError(f"{type(value).__name__} is no time of day without zone")
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def write_time_millis(value: Any) -> int:
    """From a time of day without zone; below the millisecond is cut."""
    return write_time_micros(value) // 1000


def write_uuid(value: Any) -> str:
    """From a UUID, or a text that is one in the form 8-4-4-4-12: others write bad ones and then cannot read them."""
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or len(value) != 36 or str(UUID(value)) != value.lower():
        raise ValueError("the value is no UUID (8-4-4-4-12 hexadecimal digits)")
    return value


def write_decimal(value: Any, precision: int, scale: int, size: int | None) -> bytes:
    """From a Decimal (or an int), exact: more digits than precision or scale allow are refused, never rounded."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise ValueError(f"{type(value).__name__} is no Decimal (floats are not exact)")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError("the decimal is not a finite number")
    try:
        shifted = _EXACT.scaleb(Decimal(value), scale)
    except InvalidOperation:
        raise ValueError("the decimal is out of range") from None
    if abs(shifted.adjusted()) > MAX_PRECISION:
        raise ValueError(f"the decimal has more than {precision} digits")
    unscaled = int(shifted)
    if unscaled != shifted:
        raise ValueError(f"the decimal has more than {scale} digits after the point")
    if not -(10**precision) < unscaled < 10**precision:
        raise ValueError(f"the decimal has more than {precision} digits")
    needed = size if size is not None else (unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1
    return unscaled.to_bytes(needed, "big", signed=True)


def write_decimal_text(value: Any, precision: int, scale: int, size: int | None) -> bytes:
    """From a text such as "12.30", or an int."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation:
            raise ValueError("the text is no decimal number") from None
    return write_decimal(value, precision, scale, size)


def write_base64(value: Any) -> bytes:
    """From base64 text, padding included."""
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} is no base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the text is not base64") from None


def write_float(value: Any) -> float:
    """From an int or float, or one of "NaN", "Infinity", "-Infinity"."""
    if isinstance(value, str) and value in _FLOAT_WORDS:
        return _FLOAT_WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{type(value).__name__} is no number")
    return float(value)


_DAYS: Final = (1 - _EPOCH_DAY, date.max.toordinal() - _EPOCH_DAY)
_MICROS: Final = (_DAYS[0] * _DAY_US, (_DAYS[1] + 1) * _DAY_US - 1)
_MILLIS: Final = (_MICROS[0] // 1000, _MICROS[1] // 1000)

BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "timestamp-millis": _MILLIS,
    "timestamp-micros": _MICROS,
    "local-timestamp-millis": _MILLIS,
    "local-timestamp-micros": _MICROS,
    "date": _DAYS,
    "time-millis": (0, _DAY_US // 1000 - 1),
    "time-micros": (0, _DAY_US - 1),
}
"""The lowest and the highest number that is such a time, in the years 1 to 9999. Others may read more; what is written
stays within what ``READERS`` read. Microseconds where milliseconds are meant lie outside."""

WRITERS: Final[dict[str, Any]] = {
    "timestamp-millis": write_timestamp_millis,
    "timestamp-micros": write_timestamp_micros,
    "local-timestamp-millis": write_local_timestamp_millis,
    "local-timestamp-micros": write_local_timestamp_micros,
    "date": write_date,
    "time-millis": write_time_millis,
    "time-micros": write_time_micros,
}
"""What makes the number of each logical type; UUIDs and decimals apart."""
