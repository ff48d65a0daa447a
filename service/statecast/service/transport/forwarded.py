"""The client certificate that Envoy has checked, as it forwards it: the header x-forwarded-client-cert."""

import re
from functools import lru_cache
from urllib.parse import unquote

from statecast.service.access.certificates import subject_of

FORWARDED = b"x-forwarded-client-cert"
"""Envoy removes the header if it comes from a caller."""
_CERTIFICATE = re.compile(r'(?:^|;)Cert="([^"]*)"')


@lru_cache(maxsize=1024)
def subject_in(header: bytes) -> str | None:
    """Return the subject of the certificate in the header; None without one."""
    match = _CERTIFICATE.search(header.decode("latin-1"))
    return subject_of(unquote(match[1]).encode()) if match else None
