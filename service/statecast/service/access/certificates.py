"""TLS certificates: read and checked at the start, and read again when their files change."""

import asyncio
import errno
import logging
import os
import re
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from statecast.service.errors import StartupError
from statecast.service.log import AUDIT

log = logging.getLogger(__name__)
audit = logging.getLogger(AUDIT)

POLL_SECONDS = 5.0
"""Interval between two looks at the files."""
WARN_SECONDS = 14 * 86_400.0
"""Time before the expiry from which the watch warns."""
REPEAT_SECONDS = 86_400.0
"""Interval between two warnings of the same expiry."""

CERT, KEY, CLIENT_CA = "tls-cert", "tls-key", "tls-client-ca"
_CERTIFICATE, _PRIVATE_KEY = "certificate", "private key"
_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_ServerKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_CONVERTERS = {_CERTIFICATE: "x509", _PRIVATE_KEY: "pkey"}
_NEXT_STEPS = {
    errno.ENOENT: "create it, or correct the path",
    errno.EISDIR: "name the file in that folder",
    errno.EACCES: "let the server's user read it",
}


@dataclass(frozen=True)
class Certificates:
    """Certificates of a server, checked.

    Attributes:
        chain: The server's certificate and those of its intermediate authorities, in this order, as PEM.
        key: The private key of the first, as unencrypted PEM.
        client_ca: The authorities that sign client certificates, as PEM; None if the server asks for none.
        expires_at: The earliest expiry of the chain's certificates, in seconds since 1970.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    expires_at: float


@dataclass(frozen=True)
class _Paths:
    """The files of the settings."""

    cert: Path
    key: Path
    client_ca: Path | None

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Return their contents.

        Raises:
            StartupError: if one cannot be read.
        """
        client_ca = None if self.client_ca is None else _content(CLIENT_CA, self.client_ca)
        return _content(CERT, self.cert), _content(KEY, self.key), client_ca

    def warn_if_key_is_public(self) -> None:
        """Log a warning if every user of the machine can read the private key."""
        with suppress(OSError):  # it was there a moment ago
            if self.key.stat().st_mode & 0o004:
                log.warning("%s %s can be read by every user; take that away: chmod o-r %s", KEY, self.key, self.key)


def read_certificates(cert: Path, key: Path, client_ca: Path | None) -> Certificates:
    """Read and check the certificates of a server.

    Raises:
        StartupError: if a file cannot be read or used; the message names the setting, the cause and the next step.
    """
    paths = _Paths(cert, key, client_ca)
    certificates = _checked(paths, *paths.read())
    paths.warn_if_key_is_public()
    return certificates


def subject_of(certificate_pem_or_der: bytes) -> str:
    """Return the subject of a client certificate as in RFC 4514: "CN=meter-gateway,O=Acme". Of a chain, take the first.

    Raises:
        ValueError: if these bytes are not a certificate.
    """
    is_pem = _LABEL.search(certificate_pem_or_der)
    load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
    return load(certificate_pem_or_der).subject.rfc4514_string()


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Return a context for servers that takes TLS 1.2 or newer, and asks for no client certificate.

    Raises:
        ssl.SSLError: if OpenSSL refuses the certificates, for instance because the key is too short.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _private_file(certificates.chain + certificates.key) as name:
        context.load_cert_chain(name)
    return context


class CertificateWatch:
    """Reads the files every few seconds and passes new certificates on; bad ones leave the old in place."""

    def __init__(
        self,
        cert: Path,
        key: Path,
        client_ca: Path | None,
        current: Certificates,
        on_change: Callable[[Certificates], None],
        show_expiry: Callable[[float], None],
    ) -> None:
        """Watch the files of `current`.

        Args:
            cert: The chain's file.
            key: The private key's file.
            client_ca: The file of the client certificates' authorities, if there is one.
            current: The certificates that the server uses.
            on_change: Takes new certificates, in the event loop.
            show_expiry: Takes the expiry in seconds since 1970, at the start and after each change.
        """
        self._paths = _Paths(cert, key, client_ca)
        self._current = current
        self._on_change, self._show_expiry = on_change, show_expiry
        self._used: tuple[bytes, bytes, bytes | None] | None = None
        self._problems: set[str] = set()
        self._reminder: tuple[int, float] | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        self._show_expiry(self._current.expires_at)
        while True:
            self._remind(time.time())
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._look()
            except Exception:  # a bug; the certificates are still used
                log.exception("the certificates could not be checked")

    async def _look(self) -> None:
        """Pass on the files' certificates if they are new and good."""
        try:
            found = await asyncio.to_thread(self._read)
        except StartupError as error:
            self._warn(str(error))
            return
        self._problems.clear()
        if found == self._current:
            return
        self._current, self._reminder = found, None
        self._on_change(found)
        self._show_expiry(found.expires_at)
        told = "%s %s: the new certificate is used; it expires on %s"
        audit.info(told, CERT, self._paths.cert, _day(found.expires_at))
        await asyncio.to_thread(self._paths.warn_if_key_is_public)

    def _read(self) -> Certificates:
        contents = self._paths.read()
        if contents == self._used:
            return self._current
        found = _checked(self._paths, *contents)
        self._used = contents
        return found

    def _warn(self, problem: str) -> None:
        if problem not in self._problems:
            log.warning("%s. The old certificate stays in use, and the server tries again.", problem)
        self._problems.add(problem)

    def _remind(self, now: float) -> None:
        """Log once a day that the expiry is near or past; `now` is in seconds since 1970."""
        left = self._current.expires_at - now
        if left >= WARN_SECONDS:
            return
        level = logging.WARNING if left > 0 else logging.ERROR
        if self._reminder and self._reminder[0] == level and now - self._reminder[1] < REPEAT_SECONDS:
            return
        self._reminder = level, now
        what = "expires" if left > 0 else "expired"
        log.log(level, "%s %s %s on %s; renew it", CERT, self._paths.cert, what, _day(self._current.expires_at))


def _content(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        step = _NEXT_STEPS.get(error.errno or 0, "correct the path")
        raise StartupError(f"{setting} {path} cannot be read: {error.strerror}; {step}") from error


def _checked(paths: _Paths, cert: bytes, key: bytes, client_ca: bytes | None) -> Certificates:
    """Check the contents of the files.

    Raises:
        StartupError: if they cannot be used.
    """
    chain, private_key = _certificates(CERT, paths.cert, cert), _key(paths.key, key)
    _check_key(paths, chain, private_key)
    _check_times(paths.cert, chain)
    authorities = None
    if client_ca is not None and paths.client_ca is not None:
        authorities = _certificates(CLIENT_CA, paths.client_ca, client_ca)
        _check_authorities(paths.client_ca, authorities)
    certificates = Certificates(
        # Without what else the files may hold: comments, or a key in the file of the chain.
        chain=_pem(chain),
        key=private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        client_ca=None if authorities is None else _pem(authorities),
        expires_at=min(each.not_valid_after_utc.timestamp() for each in chain),
    )
    try:
        server_context(certificates)
    except ssl.SSLError as error:
        problem = f"{CERT} {paths.cert} is refused by OpenSSL: {error.reason or error}"
        raise StartupError(f"{problem}; use one with an RSA key of 2048 bits or more, or an ECDSA key") from error
    return certificates


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _certificates(setting: str, path: Path, content: bytes) -> Sequence[x509.Certificate]:
    _check_pem(setting, path, content, _CERTIFICATE)
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise StartupError(f"{setting} {path} holds a damaged certificate: {error}; write the file again") from error
    if len(found) < sum(label == b"CERTIFICATE" for label in _LABEL.findall(content)):
        raise StartupError(f"{setting} {path} holds a certificate without an end; write the file again")
    return found


def _key(path: Path, content: bytes) -> _ServerKey:
    _check_pem(KEY, path, content, _PRIVATE_KEY)
    try:
        key = load_pem_private_key(content, None)
    except TypeError as error:
        step = f"decrypt it: openssl pkey -in {path} -out {path.with_suffix('.decrypted.pem')}"
        raise StartupError(f"{KEY} {path} is encrypted, and the server has no password; {step}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StartupError(f"{KEY} {path} holds a damaged private key: {error}; write the file again") from error
    if isinstance(key, RSAPrivateKey) or (isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES):
        return key
    raise StartupError(f"{KEY} {path} is of a kind that gRPC cannot use; use an RSA key, or an ECDSA key on P-256")


def _check_pem(setting: str, path: Path, content: bytes, wanted: str) -> None:
    """Check that the file holds PEM of the kind that is wanted."""
    labels = [label.decode().lower() for label in _LABEL.findall(content)]
    if any(label.endswith(wanted) for label in labels):
        return
    other = _PRIVATE_KEY if wanted == _CERTIFICATE else _CERTIFICATE
    step = f"name a file with -----BEGIN {wanted.upper()}-----"
    if any(label.endswith(other) for label in labels):
        problem = f"holds a {other}, not a {wanted}"
        step = step if setting == CLIENT_CA else f"swap {CERT} and {KEY}, if each names the other's file"
    elif labels:
        problem = f"holds a {labels[0]}, not a {wanted}"
    elif not content.strip():
        problem = f"is empty: it holds no {wanted}"
    elif _is_der(content):
        problem = "is DER, not PEM"
        command = f"openssl {_CONVERTERS[wanted]} -inform der -in {path} -out {path.with_suffix('.converted.pem')}"
        step = f"convert it: {command}"
    else:
        problem = "is not PEM"
    raise StartupError(f"{setting} {path} {problem}; {step}")


def _is_der(content: bytes) -> bool:
    for load in (x509.load_der_x509_certificate, lambda der: load_der_private_key(der, None)):
        try:
            load(content)
        except TypeError:  # an encrypted key
            return True
        except (ValueError, UnsupportedAlgorithm):
            continue
        return True
    return False


def _check_key(paths: _Paths, chain: Sequence[x509.Certificate], key: _ServerKey) -> None:
    """Check that the key belongs to the first certificate."""
    public = _public_bytes(key)
    matches = [_public_bytes(each) == public for each in chain]
    if matches[0]:
        return
    if any(matches):
        problem = f"{CERT} {paths.cert} starts with the certificate of {_subject(chain[0])}"
        raise StartupError(f"{problem}; put the server's own certificate first, {_subject(chain[matches.index(True)])}")
    problem = f"{KEY} {paths.key} does not belong to the certificate of {_subject(chain[0])} in {CERT} {paths.cert}"
    raise StartupError(f"{problem}; set the key that this certificate was made for")


def _public_bytes(owner: _ServerKey | x509.Certificate) -> bytes | None:
    """Return the public key, or None for a kind that is not known."""
    try:
        return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _check_times(path: Path, chain: Sequence[x509.Certificate]) -> None:
    """Check that every certificate is valid now."""
    now = datetime.now(UTC)
    for each in chain:
        what = f"{CERT} {path}: the certificate of {_subject(each)}"
        if each.not_valid_after_utc <= now:
            raise StartupError(f"{what} expired on {_day(each.not_valid_after_utc.timestamp())}; renew it")
        if each.not_valid_before_utc > now:
            begin = _day(each.not_valid_before_utc.timestamp())
            raise StartupError(f"{what} is not valid before {begin}; wait until then, or set this machine's clock")


def _check_authorities(path: Path, certificates: Sequence[x509.Certificate]) -> None:
    """Check that every certificate may sign others."""
    for each in certificates:
        if not _is_authority(each):
            problem = f"{CLIENT_CA} {path}: the certificate of {_subject(each)} is not that of a CA"
            raise StartupError(f"{problem}; name the file of the CA that signs the client certificates")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid
    except (ValueError, x509.DuplicateExtension):  # damaged
        return False


def _subject(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Give OpenSSL, which reads only files, the name of one that nobody else can read and that is gone afterwards."""
    if sys.platform == "linux":
        with open(os.memfd_create("statecast-tls"), "wb", buffering=0) as memory:
            memory.write(content)
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(buffering=0) as file:
            file.write(content)
            yield file.name
