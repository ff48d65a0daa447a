"""Targets: the names by which a client reaches its server, and the addresses behind them."""

import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, NamedTuple

from . import _messages
from .errors import invalid

USUAL_PORT = 50051
# Targets that name their resolver; gRPC checks them.
_NAMED = re.compile(r"(unix|unix-abstract|dns|xds|ipv4|ipv6|vsock|google-c2p|passthrough):", re.IGNORECASE)
# Targets that may be loopback. gRPC takes an unknown scheme, also one in capitals, for the name of a host.
_SOCKET_FILE = re.compile(r"unix(-abstract)?:.")
_ADDRESSES = re.compile(r"ipv[46]:(//)?/*(?P<hosts>.+)")
_HOST = re.compile(r"(dns:(///)?)?(?P<host>[^/]+)")
_ADDRESS = re.compile(r"(?P<address>[0-9.]+)(:[0-9]+)?|\[(?P<six>[0-9a-fA-F:.]+)\](:[0-9]+)?|(?P<bare>[0-9a-fA-F:.]+)")
_WITH_PORT = re.compile(r"((?P<address>[0-9.]+)|\[(?P<six>[0-9a-fA-F:.]+)(%25[^\]]+)?\]):[0-9]+")
_LISTED = re.compile(r"(?P<scheme>ipv[46]):/*(?P<hosts>[^/]+)")
_NAME = re.compile(r"(dns:(///)?)?(?P<authority>(?P<host>[^/:,\[\]%?#@\s]+)(:(?P<port>[0-9]+))?)")
_PORT_OF_GRPC = 443
"""The port that gRPC takes for a target such as "dns:///forecasts"."""


class Name(NamedTuple):
    """A name that may stand for several addresses.

    Attributes:
        authority: The name as the target has it, with its port if there is one: TLS and proxies know the server by it.
        host: The name without a port.
        port: Port of the servers.
    """

    authority: str
    host: str
    port: int


def check_target(target: str) -> str:
    """Return the target; refuse a web address, and a target or list without a host or a valid port."""
    scheme, separator, _ = _messages.text("target", target).partition("://")
    if separator and scheme.lower() in ("http", "https", "grpc", "grpcs", "tcp"):
        raise invalid("target", f"{target!r} is not host:port; leave out {scheme}://")
    if _NAMED.match(target):
        for address in listed_addresses(target):
            _check_address(target, address)
        return target
    if re.fullmatch(r":?[0-9]*", target):
        raise invalid("target", f"{target!r} names no host; write 'localhost:{target.strip(':') or USUAL_PORT}', say")
    # An IPv6 address contains colons, so brackets must separate it from the port.
    host, separator, port = target.rpartition(":")
    if not separator or not port or target.endswith("]") or (":" in host and not host.endswith("]")):
        whole = f"[{target}]" if target.count(":") > 1 and "[" not in target else target.removesuffix(":")
        raise invalid("target", f"{target!r} names no port; write '{whole}:{USUAL_PORT}', or the server's own port")
    if not port.isdecimal() or not 0 < int(port) <= 65_535:
        raise invalid("target", f"{target!r}: there is no port {port!r}; write '{host}:{USUAL_PORT}', say")
    return target


def _check_address(target: str, address: str) -> None:
    """Refuse an address of a list that has no port, or is of another family."""
    scheme, host = address.split(":", 1)
    match = _WITH_PORT.fullmatch(host.replace("%5B", "[").replace("%5D", "]"))
    try:
        if match and ip_address(match["address"] or match["six"]).version == int(scheme[-1]):
            return
    except ValueError:
        pass
    like = "10.0.0.7:50051" if scheme == "ipv4" else "[2001:db8::7]:50051"
    raise invalid("target", f"{target!r}: {host!r} is no {scheme} address with a port; write {like!r}, say")


def is_loopback(target: str) -> bool:
    """Return True if the target itself says that its server is on this machine.

    That is localhost, an address of 127.0.0.0/8 or ::1, a list of such addresses, or a Unix socket. Any other name
    does not count, even if it resolves to loopback. Neither does "dns://server/localhost", which another machine
    resolves.
    """
    if _SOCKET_FILE.match(target):
        return True
    if listed := _ADDRESSES.fullmatch(target):
        return all(_is_loopback_address(host) for host in listed["hosts"].split(","))
    named = _HOST.fullmatch(target)
    if named is None:
        return False
    return bool(re.fullmatch(r"localhost(:[0-9]+)?", named["host"], re.IGNORECASE | re.ASCII)) or _is_loopback_address(
        named["host"]
    )


def _is_loopback_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return False
    try:
        return ip_address(match["address"] or match["six"] or match["bare"]).is_loopback
    except ValueError:
        return False


def listed_addresses(target: str) -> list[str]:
    """Return the addresses of a target that lists some, such as "ipv4:10.0.0.7:1,10.0.0.8:1", each as a target."""
    if (listed := _LISTED.fullmatch(target)) is None:
        return []
    hosts = dict.fromkeys(filter(None, listed["hosts"].split(",")))
    return [f"{listed['scheme']}:{host}" for host in hosts]


def name_in(target: str) -> Name | None:
    """Return the name that this machine has to look up; None if the target is another one, such as an address."""
    if _NAMED.match(target) and not target.startswith("dns:"):
        return None
    found = _NAME.fullmatch(target)
    if found is None or _ADDRESS.fullmatch(found["host"]):
        return None
    return Name(found["authority"], found["host"], int(found["port"] or _PORT_OF_GRPC))


def look_up(name: Name) -> list[list[str]]:
    """Return the addresses of a name as targets, by family; see `families`.

    Raises:
        OSError: The name is not known, or nobody answered.
    """
    return families(socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM))


def families(found: Iterable[tuple[Any, ...]]) -> list[list[str]]:
    """Return what `socket.getaddrinfo` has found as targets, apart for IPv4 and IPv6, in its order of the two.

    A machine may have an address of each. So families are alternatives, and the shorter of two is left out.
    """
    by_family: dict[str, set[str]] = {}
    for family, _, _, _, (host, port, *_) in found:
        if family == socket.AF_INET:
            by_family.setdefault("ipv4", set()).add(f"ipv4:{host}:{port}")
        elif family == socket.AF_INET6:
            by_family.setdefault("ipv6", set()).add(f"ipv6:[{host.replace('%', '%25')}]:{port}")
    most = max(map(len, by_family.values()), default=0)
    return [sorted(addresses) for addresses in by_family.values() if len(addresses) == most]
