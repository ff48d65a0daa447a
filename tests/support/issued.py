"""Certificates of every kind for tests, and the files of the settings that hold them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from statecast.service.access.certificates import Certificates, read_certificates
from statecast.service.errors import StartupError

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


class Issued:
    """A certificate and its key, signed by another or by itself."""

    def __init__(
        self,
        name: str,
        issuer: "Issued | None" = None,
        *,
        days: tuple[float, float] = (-1, 90),
        is_ca: bool | None = False,
        may_sign: bool | None = None,
        key: Key | None = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        signer = issuer or self
        self.expires_at = (NOW + days[1] * DAY).timestamp()
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
        )
        if is_ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        if may_sign is not None:
            usage = x509.KeyUsage(True, False, False, False, False, may_sign, False, False, False)
            builder = builder.add_extension(usage, critical=True)
        algorithm = None if isinstance(signer.key, ed25519.Ed25519PrivateKey) else SHA256()
        self.certificate = builder.sign(signer.key, algorithm)
        self.pem = self.certificate.public_bytes(Encoding.PEM)
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.key_pem = self.key_as(NoEncryption())

    def key_as(self, encryption: KeySerializationEncryption, encoding: Encoding = Encoding.PEM) -> bytes:
        return self.key.private_bytes(encoding, PrivateFormat.PKCS8, encryption)


ROOT = Issued("root", is_ca=True)
MIDDLE = Issued("middle", ROOT, is_ca=True, may_sign=True, days=(-1, 60))
LEAF = Issued("leaf", MIDDLE)
OTHER = Issued("other", MIDDLE)


class Files:
    """The files of the settings, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.client_ca = (folder / name for name in ("tls.crt", "tls.key", "ca.crt"))
        self.write(LEAF.pem + MIDDLE.pem, LEAF.key_pem)
        self.client_ca.write_bytes(ROOT.pem)

    def write(self, cert: bytes, key: bytes) -> None:
        self.cert.write_bytes(cert)
        self.key.write_bytes(key)
        self.key.chmod(0o600)

    def read(self, *, with_ca: bool = False) -> Certificates:
        return read_certificates(self.cert, self.key, self.client_ca if with_ca else None)

    def refused(self, *, with_ca: bool = False) -> str:
        with pytest.raises(StartupError) as info:
            self.read(with_ca=with_ca)
        message = str(info.value)
        assert ";" in message, "there is no next step"
        return message
