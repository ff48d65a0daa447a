"""TLS and an API key for the measured server, as a shared network needs them."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from statecast.service.access import api_keys

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Key:
    """The certificate that a caller trusts, as PEM, and its API key."""

    ca: bytes
    api_key: str


def secure(folder: Path) -> tuple[Key, tuple[str, ...]]:
    """Make a certificate and an API key in `folder`; return what callers need, and the server's options."""
    certificate, private_key, keys = folder / "server.pem", folder / "server-key.pem", folder / "keys.json"
    _sign(certificate, private_key)
    _, api_key = api_keys.create(keys, "default", "write")
    options = ("--tls-cert", certificate, "--tls-key", private_key, "--api-keys", keys)
    return Key(certificate.read_bytes(), api_key), tuple(map(str, options))


def _sign(certificate: Path, private_key: Path) -> None:
    """Write a certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now, names = datetime.now(UTC), x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
