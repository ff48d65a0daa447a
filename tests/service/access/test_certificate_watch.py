"""Renewed certificates are passed on, bad ones are not, and the expiry is told in time."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.issued import LEAF, MIDDLE, OTHER, ROOT, Files, Issued

from statecast.service.access import certificates
from statecast.service.access.certificates import Certificates, CertificateWatch
from statecast.service.log import AUDIT


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


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
