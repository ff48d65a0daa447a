"""Certificates are read and checked: what is wrong with a file is named, with the next step."""

import logging
import os
import re
import ssl
import sys
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from support.issued import DAY, LEAF, MIDDLE, NOW, OTHER, ROOT, Files, Issued, Key

from statecast.service.access.certificates import Certificates, server_context, subject_of


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_good_files_are_read(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    found = files.read(with_ca=True)
    assert found == Certificates(LEAF.pem + MIDDLE.pem, LEAF.key_pem, ROOT.pem, MIDDLE.expires_at)
    assert files.read().client_ca is None
    assert not caplog.records
    assert "PRIVATE" not in repr(found)
    assert server_context(found).minimum_version == ssl.TLSVersion.TLSv1_2


def test_comments_and_keys_in_the_same_file_are_left_out(files: Files) -> None:
    both = b"subject=leaf\n" + LEAF.key_pem + LEAF.pem + b"# the end\n"
    files.write(both, both)
    found = files.read()
    assert (found.chain, found.key) == (LEAF.pem, LEAF.key_pem)


def test_older_forms_of_keys_are_read(files: Files) -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        issued = Issued("leaf", key=key)
        traditional = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        files.write(
            issued.pem, b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQ==\n-----END EC PARAMETERS-----\n" + traditional
        )
        assert files.read().key == issued.key_pem


@pytest.mark.parametrize("name", ["cert", "key", "client_ca"])
def test_files_that_cannot_be_read(files: Files, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path: Path = getattr(files, name)
    what = f"tls-{name.replace('_', '-')} {path} cannot be read: "
    with monkeypatch.context() as patched:
        real = Path.read_bytes

        def read_bytes(each: Path) -> bytes:
            if each == path:
                raise PermissionError(13, os.strerror(13))
            return real(each)

        patched.setattr(Path, "read_bytes", read_bytes)
        assert files.refused(with_ca=True) == f"{what}Permission denied; let the server's user read it"
    path.unlink()
    assert files.refused(with_ca=True) == f"{what}No such file or directory; create it, or correct the path"
    path.mkdir()
    assert files.refused(with_ca=True) == f"{what}Is a directory; name the file in that folder"


@pytest.mark.parametrize("name", ["cert", "key", "client_ca"])
@pytest.mark.parametrize("content", [b"", b"  \n"])
def test_empty_files(files: Files, name: str, content: bytes) -> None:
    path: Path = getattr(files, name)
    path.write_bytes(content)
    assert f"{path} is empty" in files.refused(with_ca=True)


def test_files_that_are_not_pem(files: Files) -> None:
    files.cert.write_bytes(b"hello")
    assert files.refused() == f"tls-cert {files.cert} is not PEM; name a file with -----BEGIN CERTIFICATE-----"
    files.write(LEAF.pem, b"0\x82hello")
    assert files.refused() == f"tls-key {files.key} is not PEM; name a file with -----BEGIN PRIVATE KEY-----"


def test_der_can_be_converted_with_the_command_of_the_message(files: Files) -> None:
    files.write(LEAF.der, LEAF.key_pem)
    message = files.refused()
    assert f"tls-cert {files.cert} is DER, not PEM; convert it: openssl x509 -inform der" in message
    for encryption in (NoEncryption(), BestAvailableEncryption(b"secret")):
        files.write(LEAF.pem, LEAF.key_as(encryption, Encoding.DER))
        message = files.refused()
        assert f"tls-key {files.key} is DER, not PEM; convert it: openssl pkey -inform der" in message


def test_swapped_files(files: Files) -> None:
    files.cert, files.key = files.key, files.cert
    expected = f"tls-cert {files.cert} holds a private key, not a certificate; swap tls-cert and tls-key"
    assert expected in files.refused()
    files.cert = files.key
    assert f"tls-key {files.key} holds a certificate, not a private key; swap" in files.refused()


def test_other_pem(files: Files) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(LEAF.name).sign(LEAF.key, SHA256())
    files.cert.write_bytes(request.public_bytes(Encoding.PEM))
    assert "holds a certificate request, not a certificate; name a file with -----BEGIN CERT" in files.refused()
    files.write(LEAF.pem, LEAF.key_pem)
    files.client_ca.write_bytes(ROOT.key_pem)
    message = files.refused(with_ca=True)
    assert f"tls-client-ca {files.client_ca} holds a private key, not a certificate; name a file" in message


@pytest.mark.parametrize(
    "cut", [len(LEAF.pem) - 30, len(LEAF.pem) + 28, len(LEAF.pem) + 300], ids=["end", "begin", "middle"]
)
def test_half_written_files(files: Files, cut: int) -> None:
    files.cert.write_bytes((LEAF.pem + MIDDLE.pem)[:cut])
    assert "write the file again" in files.refused()
    files.write(LEAF.pem, LEAF.key_pem[:-40])
    assert f"tls-key {files.key} holds a damaged private key" in files.refused()


def test_encrypted_keys(files: Files) -> None:
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        files.key.write_bytes(LEAF.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
        assert f"tls-key {files.key} is encrypted" in files.refused()
        assert "openssl pkey -in" in files.refused()


def test_the_key_of_another_certificate(files: Files) -> None:
    files.key.write_bytes(OTHER.key_pem)
    expected = (
        f"tls-key {files.key} does not belong to the certificate of 'CN=leaf,O=Acme' in tls-cert {files.cert}; set"
    )
    assert files.refused().startswith(expected)


def test_a_chain_in_the_wrong_order(files: Files) -> None:
    files.cert.write_bytes(MIDDLE.pem + LEAF.pem)
    message = files.refused()
    assert f"tls-cert {files.cert} starts with the certificate of 'CN=middle,O=Acme'; put" in message
    assert message.endswith("first, 'CN=leaf,O=Acme'")


def test_times(files: Files) -> None:
    old = Issued("leaf", MIDDLE, days=(-30, -2))
    files.write(old.pem, old.key_pem)
    day = f"{NOW - 2 * DAY:%Y-%m-%d %H:%M:%S} UTC"
    assert files.refused() == f"tls-cert {files.cert}: the certificate of 'CN=leaf,O=Acme' expired on {day}; renew it"
    early = Issued("leaf", MIDDLE, days=(2, 30))
    files.write(early.pem, early.key_pem)
    assert f"'CN=leaf,O=Acme' is not valid before {NOW + 2 * DAY:%Y-%m-%d %H:%M:%S} UTC; wait" in files.refused()
    files.write(LEAF.pem + Issued("middle", ROOT, is_ca=True, days=(-9, -1)).pem, LEAF.key_pem)
    assert "the certificate of 'CN=middle,O=Acme' expired on" in files.refused()


@pytest.mark.parametrize(
    "not_ca", [Issued("x"), Issued("x", is_ca=None), Issued("x", is_ca=True, may_sign=False)], ids=["no", "v1", "usage"]
)
def test_client_authorities_must_be_authorities(files: Files, not_ca: Issued) -> None:
    files.client_ca.write_bytes(ROOT.pem + not_ca.pem)
    expected = f"tls-client-ca {files.client_ca}: the certificate of 'CN=x,O=Acme' is not that of a CA; name"
    assert files.refused(with_ca=True).startswith(expected)


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())])
def test_keys_that_grpc_cannot_use(files: Files, key: Key) -> None:
    issued = Issued("leaf", key=key)
    files.write(issued.pem, issued.key_pem)
    assert f"tls-key {files.key} is of a kind that gRPC cannot use; use an RSA key" in files.refused()


def test_keys_that_openssl_refuses(files: Files) -> None:
    short = Issued("leaf", key=rsa.generate_private_key(65537, 1024))
    files.write(short.pem, short.key_pem)
    assert f"tls-cert {files.cert} is refused by OpenSSL: EE_KEY_TOO_SMALL; use" in files.refused()


def test_a_key_that_everybody_can_read_is_a_warning(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    files.key.chmod(0o644)
    files.read()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"tls-key {files.key} can be read by every user" in record.message


def test_no_file_is_left_behind(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for platform in ("linux", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        before, descriptors = set(tmp_path.iterdir()), len(os.listdir("/proc/self/fd"))
        files.read()
        assert set(tmp_path.iterdir()) == before
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_subjects() -> None:
    gateway = Issued("meter-gateway")
    assert subject_of(gateway.pem) == subject_of(gateway.der) == "CN=meter-gateway,O=Acme"
    assert subject_of(LEAF.pem + ROOT.pem) == "CN=leaf,O=Acme"
    assert subject_of(Issued("a,O=Other").der) == r"CN=a\,O=Other,O=Acme"
    for wrong in (b"", b"hello", LEAF.pem[:100], LEAF.der[:-1], LEAF.key_pem):
        with pytest.raises(ValueError, match=re.compile(".")):
            subject_of(wrong)
