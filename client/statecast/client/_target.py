"""Targets: the names by which a client reaches its server."""

import re
from ipaddress import ip_address

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


def check_target(target: str) -> str:
    """Return the target; refuse a web address, and a target without a host or a valid port."""
    scheme, separator, _ = _messages.text("target", target).partition("://")
    if separator and scheme.lower() in ("http", "https", "grpc", "grpcs", "tcp"):
        raise invalid("target", f"{target!r} is not host:port; leave out {scheme}://")
    if _NAMED.match(target):
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
