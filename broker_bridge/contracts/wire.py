"""Avro's variable-length numbers, and the two words compiled code has for failing.

Source: Avro 1.12 specification, "Binary Encoding". Compiled readers deal with one-byte numbers themselves and come here
for longer ones.
"""

from __future__ import annotations

from typing import Final

INT_MIN: Final = -(2**31)
INT_MAX: Final = 2**31 - 1
LONG_MIN: Final = -(2**63)
LONG_MAX: Final = 2**63 - 1


class BadBytesError(Exception):
    """Bytes that the schema does not allow; becomes MalformedError with the field and the byte."""


class UnresolvedError(Exception):
    """A value that the writer's schema allows and the reader's does not; becomes IncompatibleError."""


def long_tail(value: bytes, at: int, first: int) -> tuple[int, int]:
    """The number whose first byte was ``first`` (above 127), and where it ends. More than 64 bits are refused.

    A decoder without this bound accepts a number of 5 MB, and some wrap what does not fit into a wrong value.
    """
    number = first & 127
    shift = 7
    while True:
        byte = value[at]
        at += 1
        if byte < 128:
            break
        number |= (byte & 127) << shift
        shift += 7
        if shift > 63:
            raise BadBytesError("a number has more than 10 bytes")
    number |= byte << shift
    if number > 0xFFFF_FFFF_FFFF_FFFF:
        raise BadBytesError("a number has more than 64 bits")
    return (number >> 1) ^ -(number & 1), at


def int_tail(value: bytes, at: int, first: int) -> tuple[int, int]:
    """As ``long_tail``, for the type int: more than 32 bits are refused."""
    number, at = long_tail(value, at, first)
    if not INT_MIN <= number <= INT_MAX:
        raise BadBytesError("an int has more than 32 bits")
    return number, at


def length_tail(value: bytes, at: int, first: int) -> tuple[int, int]:
    """As ``long_tail``, for a length: negative is refused."""
    number, at = long_tail(value, at, first)
    if number < 0:
        raise BadBytesError("a length is negative")
    return number, at


def encode_long(number: int) -> bytes:
    """A number as Avro writes it."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 127:
        out.append((rest & 127) | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)
