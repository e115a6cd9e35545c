"""Which Python values stand for Avro's."""

from __future__ import annotations

from enum import Enum


class Form(Enum):
    """One way to show a decoded value.

    ==============================  ============================  ==========================  =========================
    Avro                            PYTHON                        WIRE                        JSON
    ==============================  ============================  ==========================  =========================
    timestamp-millis/-micros        aware datetime, UTC           int                         int
    local-timestamp-millis/-micros  naive datetime                int                         int
    date                            date                          int (days since 1970)       int
    time-millis/-micros             time                          int                         int
    decimal                         Decimal                       bytes                       text, "12.30"
    uuid                            UUID                          str                         str
    bytes, fixed                    bytes                         bytes                       text, base64
    float, double                   float                         float                       number, or "NaN",
                                                                                              "Infinity", "-Infinity"
    enum                            str                           str                         str
    union                           value of the branch           value of the branch         value of the branch
    ==============================  ============================  ==========================  =========================

    Everything else is the same in all three. WIRE is the underlying type of the schema; JSON is what goes to HTTP
    targets:
    no datetime is made only to be turned back, and ``json.dumps`` takes it as it is. Base64 rather than Avro's own JSON
    encoding (one character a byte, up to U+00FF), because no Go or Rust JSON library reads the latter into bytes.
    """

    PYTHON = "python"
    WIRE = "wire"
    JSON = "json"
