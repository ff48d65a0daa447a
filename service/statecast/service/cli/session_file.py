"""The file of exported sessions: written once from start to end, and checked as a whole before it is used.

    file  = "STATECAST SESSIONS 1" newline, manifest, session*, end
    block = kind (1 byte) length of the content (4 bytes) CRC-32 of all but itself (4 bytes) content

Numbers are little-endian. The blocks' kinds are M, S and E. The manifest and the end are JSON; a session is the message
statecast.v1.ExportedSession. The end holds the number of sessions, their models, and the SHA-256 of all bytes before.
"""

import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from google.protobuf.message import DecodeError

from statecast.v1.admin_service_pb2 import ExportedSession

FORMAT = 1
MAGIC = b"STATECAST SESSIONS "
FIRST_LINE = MAGIC + b"%d\n" % FORMAT
MANIFEST, SESSION, END = b"M", b"S", b"E"
LARGEST_BLOCK = 256 * 1024 * 1024
"""A longer one is damage, not worth the memory."""
_BLOCK = struct.Struct("<cII")


class SessionFileError(Exception):
    """The file cannot be used; the message says where and why."""


class UsedModel(NamedTuple):
    """A model that sessions run on; the digest is hexadecimal."""

    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass
class Contents:
    """What a file holds: its manifest, the number of its sessions, those of each model, and its size."""

    manifest: dict[str, Any]
    sessions: int = 0
    models: Counter[UsedModel] = field(default_factory=Counter)
    nbytes: int = 0

    def count(self, session: ExportedSession) -> None:
        """Count a session."""
        self.sessions += 1
        self.models[UsedModel(session.model, session.model_version, session.model_digest)] += 1

    @property
    def summary(self) -> dict[str, Any]:
        """The number of sessions, and those of each model."""
        models = [{**used._asdict(), "sessions": count} for used, count in sorted(self.models.items())]
        return {"sessions": self.sessions, "models": models}


class SessionWriter:
    """Writes a file of sessions."""

    def __init__(self, out: BinaryIO, manifest: dict[str, Any]) -> None:
        """Write the manifest, which is plain JSON."""
        self._out, self._digest = out, hashlib.sha256()
        self.contents = Contents(manifest)
        self._write(FIRST_LINE)
        self._block(MANIFEST, json.dumps(manifest).encode())

    def add(self, session: ExportedSession) -> None:
        """Write a session."""
        self._block(SESSION, session.SerializeToString())
        self.contents.count(session)

    def finish(self) -> Contents:
        """Write the end, without which the file counts as cut off."""
        end = {**self.contents.summary, "sha256": self._digest.hexdigest()}
        self._block(END, json.dumps(end).encode())
        self._out.flush()
        return self.contents

    def _block(self, kind: bytes, content: bytes) -> None:
        self._write(_BLOCK.pack(kind, len(content), _checksum(kind, content)) + content)

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._digest.update(data)
        self.contents.nbytes += len(data)


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` at the end, readable by its owner alone; nothing is left on failure.

    Raises:
        SessionFileError: if it cannot be written.
    """
    path = path.resolve()  # a link stays one
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            with path.open("wb") as out:
                yield out
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.unlink(missing_ok=True)
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise SessionFileError(f"cannot be written: {error.strerror}") from error


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to read, which can be read twice: "-" is standard input, copied to a temporary file.

    Raises:
        SessionFileError: if it cannot be read.
    """
    try:
        file = _copy_of_stdin() if str(path) == "-" else path.open("rb")
    except OSError as error:
        raise SessionFileError(f"cannot be read: {error.strerror}") from error
    with file:
        yield file


def _copy_of_stdin() -> BinaryIO:
    copy: Any = tempfile.TemporaryFile()  # noqa: SIM115  # its user closes it
    shutil.copyfileobj(sys.stdin.buffer, copy)
    return copy  # type: ignore[no-any-return]


def check(file: BinaryIO, prefix: str = "") -> Contents:
    """Check a whole file, and return its manifest and what it holds of the sessions whose ids begin with `prefix`.

    Raises:
        SessionFileError: if it is no such file, damaged or cut off; the message names the place.
    """
    reader = _Reader(file)
    kind, content = reader.block()
    if kind != MANIFEST:
        raise reader.damaged("the manifest is missing")
    whole = Contents(reader.json(content))
    chosen = Contents(whole.manifest)
    while True:
        before = reader.digest.hexdigest()
        kind, content = reader.block()
        if kind == END:
            break
        session = reader.session(kind, content)
        whole.count(session)
        if session.session_id.startswith(prefix):
            chosen.count(session)
    if reader.json(content) != {**whole.summary, "sha256": before}:
        raise reader.damaged("the end does not fit what is before it")
    if file.read(1):
        raise reader.damaged("something follows the end")
    chosen.nbytes = file.tell()
    return chosen


def sessions(file: BinaryIO, prefix: str = "") -> Iterator[ExportedSession]:
    """Yield the sessions of a file that was checked, whose ids begin with `prefix`."""
    reader = _Reader(file)
    reader.block()
    while (block := reader.block())[0] != END:
        session = reader.session(*block)
        if session.session_id.startswith(prefix):
            yield session


class _Reader:
    """Reads a file block by block, from its start."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file, self._at, self._blocks = file, 0, 0
        self.digest = hashlib.sha256()
        self._check_first_line()

    def block(self) -> tuple[bytes, bytes]:
        """Return the kind and the content of the next block."""
        self._at = self._file.tell()
        head = self._read(_BLOCK.size)
        kind, length, checksum = _BLOCK.unpack(head)
        if length > LARGEST_BLOCK:
            raise self.damaged("the length of a block is not possible")
        content = self._read(length)
        if _checksum(kind, content) != checksum:
            raise self.damaged(f"the checksum of block {self._blocks + 1} does not hold")
        self._blocks += 1
        return kind, content

    def session(self, kind: bytes, content: bytes) -> ExportedSession:
        """Return the session of a block."""
        if kind != SESSION:
            raise self.damaged("a block is of an unknown kind")
        try:
            return ExportedSession.FromString(content)
        except DecodeError as error:
            raise self.damaged("a session cannot be decoded") from error

    def json(self, content: bytes) -> dict[str, Any]:
        """Return the object of a manifest or an end."""
        try:
            found = json.loads(content)
        except ValueError as error:
            raise self.damaged("a block is no JSON") from error
        if not isinstance(found, dict):
            raise self.damaged("a block is no JSON object")
        return found

    def damaged(self, what: str) -> SessionFileError:
        """Return the error for the block that was read last."""
        return SessionFileError(f"damaged at byte {self._at:,}: {what}; use another copy, or export again")

    def _check_first_line(self) -> None:
        line = self._file.read(len(FIRST_LINE))
        self.digest.update(line)
        if line == FIRST_LINE:
            return
        if line.startswith(MAGIC) and len(line) == len(FIRST_LINE):
            raise SessionFileError("a newer format than this version reads; use the version that wrote it, or a later")
        if line and FIRST_LINE.startswith(line):
            raise self._cut_off()
        raise SessionFileError("no file of exported sessions: 'statecast sessions export' makes one")

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        self.digest.update(data)
        if len(data) < length:
            raise self._cut_off()
        return data

    def _cut_off(self) -> SessionFileError:
        size = self._file.seek(0, os.SEEK_END)
        return SessionFileError(f"cut off after {size:,} bytes: its end is missing; use another copy, or export again")


def _checksum(kind: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(kind + len(content).to_bytes(4, "little")))
