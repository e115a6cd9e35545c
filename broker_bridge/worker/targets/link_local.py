"""Addresses that are never called: link-local ones, where clouds answer with credentials."""

from __future__ import annotations

import ipaddress
import socket


def is_link_local(host: str) -> bool:
    """Whether ``host`` is such an address, however it is written; a name is none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))  # 2852039166 is 169.254.169.254 as well
        except OSError:
            return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local
