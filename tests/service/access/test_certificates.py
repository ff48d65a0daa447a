import asyncio
import contextlib
import logging
import os
import re
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from statecast.service.access import certificates
from statecast.service.access.certificates import (
    Certificates,
    CertificateWatch,
    read_certificates,
    server_context,
    subject_of,
)
from statecast.service.errors import StartupError
from statecast.service.log import AUDIT

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


class Watching:
    """A watch that runs, and what it has reported."""

    def __init__(self, files: Files, current: Certificates) -> None:
        self.changes: list[Certificates] = []
        self.expiries: list[float] = []
        self._rounds = 0
        self.watch = CertificateWatch(
            files.cert, files.key, files.client_ca, current, self.changes.append, self.expiries.append
        )
        self._read = self.watch._read
        self.watch._read = self._count  # type: ignore[method-assign]

    def _count(self) -> Certificates:
        try:
            return self._read()
        finally:
            self._rounds += 1

    async def rounds(self, number: int = 3) -> None:
        """Wait until the files have been read that often, and the last but one result has been used."""
        await until(lambda end=self._rounds + number: self._rounds >= end)  # type: ignore[misc]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@asynccontextmanager
async def watching(files: Files, current: Certificates) -> AsyncIterator[Watching]:
    watching = Watching(files, current)
    task = asyncio.ensure_future(watching.watch.run())
    yield watching
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(certificates, "POLL_SECONDS", 0.005)
    caplog.set_level(logging.INFO)


def texts(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    names = (certificates.__name__, AUDIT)
    return [(record.levelname, record.message) for record in caplog.records if record.name in names]


@pytest.mark.usefixtures("quick")
async def test_a_change_is_passed_on_once(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(files, files.read(with_ca=True)) as seen:
        await seen.rounds()
        assert seen.expiries == [MIDDLE.expires_at]
        assert not seen.changes
        new = Issued("leaf", MIDDLE, days=(-1, 40))
        moment = files.cert.stat()
        files.write(new.pem, new.key_pem)
        os.utime(files.cert, ns=(moment.st_atime_ns, moment.st_mtime_ns))
        await until(lambda: bool(seen.changes))
        await seen.rounds()
        assert seen.changes == [Certificates(new.pem, new.key_pem, ROOT.pem, new.expires_at)]
        assert seen.expiries == [MIDDLE.expires_at, new.expires_at]
        lines = [each for each in texts(caplog) if each[0] == "INFO"]
        assert len(lines) == 1
        assert f"tls-cert {files.cert}: the new certificate is used; it expires on" in lines[0][1]
        files.client_ca.write_bytes(ROOT.pem + MIDDLE.pem)
        await until(lambda: len(seen.changes) == 2)
        assert seen.changes[1].client_ca == ROOT.pem + MIDDLE.pem


@pytest.mark.usefixtures("quick")
async def test_symbolic_links_are_followed_as_kubernetes_swaps_them(files: Files, tmp_path: Path) -> None:
    for name, issued in ("one", LEAF), ("two", OTHER):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_bytes(issued.pem)
        (tmp_path / name / "tls.key").write_bytes(issued.key_pem)
    data, mounted = tmp_path / "..data", tmp_path / "mounted"
    data.symlink_to("one")
    mounted.symlink_to("..data")
    files.cert, files.key = mounted / "tls.crt", mounted / "tls.key"
    async with watching(files, files.read(with_ca=True)) as seen:
        await seen.rounds()
        (tmp_path / "..data_tmp").symlink_to("two")
        (tmp_path / "..data_tmp").rename(data)
        await until(lambda: bool(seen.changes))
        await seen.rounds()
        assert [each.chain for each in seen.changes] == [OTHER.pem]


@pytest.mark.usefixtures("quick")
async def test_bad_files_leave_the_old_certificates(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(files, files.read(with_ca=True)) as seen:
        files.cert.write_bytes(OTHER.pem)
        await seen.rounds(4)
        files.key.unlink()
        await seen.rounds(4)
        assert not seen.changes
        (level, text), (_, second) = texts(caplog)
        assert level == "WARNING"
        assert "does not belong" in text
        assert text.endswith(". The old certificate stays in use, and the server tries again.")
        assert "cannot be read" in second
        files.write(OTHER.pem, OTHER.key_pem)
        await until(lambda: bool(seen.changes))
        assert [each.chain for each in seen.changes] == [OTHER.pem]
        await seen.rounds()
        caplog.clear()
        for times in (1, 2):  # a problem that comes back is a new one
            files.cert.write_bytes(LEAF.pem)
            await seen.rounds()
            files.cert.write_bytes(OTHER.pem)
            await seen.rounds()
            assert len(texts(caplog)) == times
        assert len(seen.changes) == 1


@pytest.mark.usefixtures("quick")
async def test_a_failing_listener_does_not_end_the_watch(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    changes: list[Certificates] = []

    def on_change(certificates: Certificates) -> None:
        changes.append(certificates)
        raise ValueError("a bug")

    async with watching(files, files.read(with_ca=True)) as seen:
        seen.watch._on_change = on_change
        files.write(OTHER.pem, OTHER.key_pem)
        await until(lambda: bool(changes))
        files.write(LEAF.pem, LEAF.key_pem)
        await until(lambda: len(changes) == 2)
    assert any("could not be checked" in text for _, text in texts(caplog))


@pytest.mark.usefixtures("quick")
async def test_a_new_key_that_everybody_can_read_is_a_warning(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(files, files.read(with_ca=True)) as seen:
        files.write(OTHER.pem, OTHER.key_pem)
        files.key.chmod(0o644)
        await until(lambda: bool(seen.changes))
        await seen.rounds()
        assert sum("can be read by every user" in text for _, text in texts(caplog)) == 1


def test_expiry_is_told_once_a_day(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    current = files.read(with_ca=True)
    watch = Watching(files, current).watch
    day, end = 86_400.0, current.expires_at
    for left in (20 * day, 14 * day, 13.9 * day, 13.2 * day, 12.9 * day, 12.5 * day):
        watch._remind(end - left)
    assert [level for level, _ in texts(caplog)] == ["WARNING"] * 2
    until_when = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M:%S} UTC"
    assert texts(caplog)[0][1] == f"tls-cert {files.cert} expires on {until_when}; renew it"
    caplog.clear()
    for after in (-0.1 * day, 0.0, 0.5 * day, 1.0 * day):
        watch._remind(end + after)
    assert [level for level, _ in texts(caplog)] == ["WARNING", "ERROR", "ERROR"]
    assert texts(caplog)[1][1] == f"tls-cert {files.cert} expired on {until_when}; renew it"


@pytest.mark.usefixtures("quick")
async def test_the_watch_warns_of_each_near_expiry(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    first, second, later = (Issued("leaf", MIDDLE, days=(-1, days)) for days in (3, 5, 30))
    files.write(first.pem, first.key_pem)
    async with watching(files, files.read(with_ca=True)) as seen:
        for changes, issued in enumerate((first, second, later)):
            files.write(issued.pem, issued.key_pem)
            await until(lambda: len(seen.changes) == changes)  # noqa: B023
            await seen.rounds()
    lines = [text for _, text in texts(caplog) if "renew it" in text]
    assert len(lines) == 2
    for line, issued in zip(lines, (first, second), strict=True):
        assert f"{datetime.fromtimestamp(issued.expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC" in line
