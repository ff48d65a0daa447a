"""A file of sessions gives back what was written, or says where it is damaged."""

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.service.cli import session_file
from statecast.service.cli.session_file import SessionFileError, SessionWriter, check, opened, sessions, written
from statecast.v1.admin_service_pb2 import ExportedSession

MANIFEST = {"tenant": "acme", "prefix": "泵", "server_version": "0.1.0"}


def session(name: str, model: str = "tiny") -> ExportedSession:
    return ExportedSession(session_id=name, record=os.urandom(20), model=model, model_version="1", model_digest="ab")


def file_of(*content: ExportedSession) -> bytes:
    out = io.BytesIO()
    writer = SessionWriter(out, MANIFEST)
    for each in content:
        writer.add(each)
    writer.finish()
    return out.getvalue()


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(st.dictionaries(names, st.binary(max_size=100), max_size=10), st.text(st.characters(codec="utf-8"), max_size=2))
def test_what_was_written_is_read(records: dict[str, bytes], prefix: str) -> None:
    content = [ExportedSession(session_id=name, record=record) for name, record in records.items()]
    file = io.BytesIO(file_of(*content))
    chosen = [each for each in content if each.session_id.startswith(prefix)]
    contents = check(file, prefix)
    assert (contents.manifest, contents.sessions) == (MANIFEST, len(chosen))
    assert contents.nbytes == len(file.getvalue())
    assert list(sessions(file, prefix)) == chosen


@given(st.data())
def test_damage_anywhere_is_noticed(data: st.DataObject) -> None:
    whole = file_of(session("a"), session("b", "other"))
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "remove"]))
    flip = data.draw(st.integers(1, 255))
    damaged = {
        "flip": whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :],
        "cut": whole[:at],
        "insert": whole[:at] + bytes([flip]) + whole[at:],
        "remove": whole[:at] + whole[at + 1 :],
    }[kind]
    if damaged == whole:
        return
    with pytest.raises(SessionFileError):
        check(io.BytesIO(damaged))


def test_blocks_cannot_change_places_or_go_missing() -> None:
    first, second, third = (session(name) for name in "abc")
    whole = file_of(first, second, third)
    size = 9 + first.ByteSize()
    start = whole.index(first.SerializeToString()) - 9
    a, b, rest = whole[start : start + size], whole[start + size : start + 2 * size], whole[start + 2 * size :]
    for changed in (a + rest, b + a + rest, a + b + b + rest, a + b + file_of()[len(session_file.FIRST_LINE) :]):
        with pytest.raises(SessionFileError, match="damaged at byte"):
            check(io.BytesIO(whole[:start] + changed))


def test_an_impossible_length_takes_no_memory() -> None:
    whole = file_of(session("a"))
    at = whole.index(b"S", len(session_file.FIRST_LINE) + 60)
    broken = whole[: at + 1] + b"\xff\xff\xff\xff" + whole[at + 5 :]
    with pytest.raises(SessionFileError, match="not possible"):
        check(io.BytesIO(broken))


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    with pytest.raises(TypeError), written(path) as out:
        out.write("no bytes")  # type: ignore[call-overload]
    assert not list(tmp_path.iterdir())
    with written(path) as out:
        out.write(b"all")
        assert not path.exists()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"all", 0o600)


def test_standard_input_can_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = file_of(session("a"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(whole)))
    with opened(Path("-")) as file:
        assert check(file).sessions == 1
        assert [each.session_id for each in sessions(file)] == ["a"]
