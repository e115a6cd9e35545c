"""Avro contracts: framing, codec, compatibility, and where schemas come from."""

from broker_bridge.contracts.codec import Codec, Decoded
from broker_bridge.contracts.compatibility import Mode, Problem, check
from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.framing import WireForm, frame, unframe
from broker_bridge.contracts.naming import SubjectNaming
from broker_bridge.contracts.upcasters import Upcasters, load_upcasters, upcaster

__all__ = [
    "Codec",
    "Contract",
    "Decoded",
    "Form",
    "Mode",
    "Problem",
    "SchemaDirectory",
    "SubjectNaming",
    "Upcasters",
    "WireForm",
    "check",
    "frame",
    "load_upcasters",
    "parse_contract",
    "unframe",
    "upcaster",
]
