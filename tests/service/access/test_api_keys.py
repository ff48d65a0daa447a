"""API keys: the file, who a key is, and the command that makes them."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from statecast.service.access import api_keys
from statecast.service.access.api_keys import ApiKeys, KeyFileError
from statecast.service.access.key_file import KeyFile
from statecast.service.access.principal import Principal, Role
from statecast.service.cli.main import main
from statecast.service.errors import StartupError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_its_tenant_and_role(path: Path) -> None:
    key_id, key = api_keys.create(path, "acme", "read", note="Bonn")
    assert ApiKeys.read(path).find(key) == Principal("acme", Role.READ, f"key {key_id}", None, key_id)
    assert key.rpartition("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_anything_else_is_nobody(path: Path) -> None:
    key_id, key = api_keys.create(path, "acme", "read")
    other_id, _ = api_keys.create(path, "acme", "read")
    keys = ApiKeys.read(path)
    secret = key.removeprefix(f"sck_{key_id}_")
    for wrong in (
        "",
        "sck_",
        secret,
        f"sck_{other_id}_{secret}",
        key[:-1],
        key + "A",
        key.upper(),
        f" {key}",
        f"{key}\n",
    ):
        assert keys.find(wrong) is None


def test_the_file_keeps_its_mode_and_the_other_keys(path: Path) -> None:
    _, first = api_keys.create(path, "acme", "read")
    path.chmod(0o640)
    second_id, second = api_keys.create(path, "acme", "write")
    assert path.stat().st_mode & 0o777 == 0o640
    api_keys.revoke(path, second_id)
    keys = ApiKeys.read(path)
    assert keys.find(first)
    assert keys.find(second) is None
    assert os.listdir(path.parent) == [path.name]


def test_keys_made_at_the_same_time_are_all_kept(path: Path) -> None:
    threads = [threading.Thread(target=api_keys.create, args=(path, "acme", "read")) for _ in range(8)]
    command = [sys.executable, "-m", "statecast.service", "keys", "create", "--file", str(path)]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(30) for process in processes] == [0, 0]
    assert len(ApiKeys.read(path).by_id) == 10


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not a file of API keys"),
        ("[]", "is not a file of API keys"),
        ('{"keys": {"a": {}}}', "is not a file of API keys"),
        (
            json.dumps({"keys": {"a": {"tenant": "A", "role": "read", "salt": "", "sha256": "", "created_at": 0}}}),
            "tenant 'A' is not 1 to 64 of a-z, 0-9 and -",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(path: Path, content: str | None, says: str) -> None:
    if content is not None:
        path.write_text(content)
    with pytest.raises(StartupError, match=says) as caught:
        KeyFile(path)
    assert str(caught.value).startswith(f"api-keys: {path}")


def test_a_file_that_breaks_leaves_the_keys_from_before(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, key = api_keys.create(path, "acme", "read")
    file = KeyFile(path)
    assert not file.look()
    path.write_text("{")
    assert not file.look()
    assert "the keys from before are kept" in caplog.text
    assert file.find(key)
    path.unlink()
    api_keys.create(path, "acme", "read")
    assert file.look()
    assert file.find(key) is None


def test_a_change_of_the_file_is_in_the_audit_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, _ = api_keys.create(path, "acme", "read")
    second, _ = api_keys.create(path, "acme", "read")
    file = KeyFile(path)
    api_keys.revoke(path, first)
    third, _ = api_keys.create(path, "acme", "write")
    content = json.loads(path.read_text())
    content["keys"][second]["role"] = "admin"
    path.write_text(json.dumps(content))
    assert file.look()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("statecast.audit", "INFO")
    assert record.__dict__["fields"] == {
        "added": 1, "added_ids": third, "removed": 1, "removed_ids": first, "changed": 1, "changed_ids": second,
    }  # fmt: skip


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments])


def test_the_command_makes_lists_and_revokes(path: Path) -> None:
    file = ("--file", str(path))
    made = keys("create", *file, "--tenant", "acme", "--role", "read", "--days", "30", "--note", "Bonn\x1b[31m")
    assert made.exit_code == 0, made.output
    (principal,) = [ApiKeys.read(path).find(made.stdout.strip())]
    assert principal is not None
    listed = keys("list", *file)
    (line,) = listed.stdout.splitlines()[1:]
    assert line.split()[:3] == [principal.key_id, "acme", "read"]
    assert "\x1b" not in line
    assert keys("revoke", *file, principal.key_id).exit_code == 0
    assert ApiKeys.read(path).by_id == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "--tenant", "A B"), "--tenant 'A B' is not 1 to 64"),
        (("create", "--tenant", ""), "--tenant '' is not 1 to 64"),
        (("create", "--role", "boss"), "'boss' is not one of"),
        (("create", "--days", "0"), "--days"),
        (("list",), "statecast keys create makes it"),
        (("revoke", "x"), "has no key 'x'; statecast keys list shows the ids"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = keys(arguments[0], "--file", str(path), *arguments[1:])
    assert done.exit_code != 0
    assert says in done.output
    assert not path.exists()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"nowhere/keys.json cannot be written: No such file or directory"):
        api_keys.create(tmp_path / "nowhere" / "keys.json", "acme", "read")
