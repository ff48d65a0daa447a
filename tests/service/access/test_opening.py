"""Settings of access that do not fit together, the file of subjects, and the warning of an open address."""

import re
from pathlib import Path
from typing import Any

import pytest

from statecast.service.access.opening import Access, certificates, read_subjects, warn_if_exposed
from statecast.service.access.principal import Principal, Role
from statecast.service.errors import StartupError
from statecast.service.settings import Settings

FILE = Path("x.pem")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tls_cert": FILE}, "tls-cert is set without tls-key; set both, or neither"),
        ({"tls_key": FILE}, "tls-key is set without tls-cert"),
        ({"tls_client_ca": FILE}, "tls-client-ca needs TLS: set tls-cert and tls-key as well"),
        ({"tls_subjects": FILE}, "tls-subjects needs TLS"),
        ({"tls_cert": FILE, "tls_key": FILE, "tls_subjects": FILE}, "tls-subjects needs tls-client-ca"),
    ],
)
def test_half_a_setting_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(StartupError, match=says):
        certificates(Settings(**settings))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"jwt_issuer": "a"}, "jwt-issuer needs jwt-keys"),
        ({"jwt_audience": "a"}, "jwt-audience needs jwt-keys"),
        ({"jwt_keys": "keys.json", "jwt_issuer": "a"}, "jwt-keys needs jwt-audience"),
        ({"jwt_keys": "keys.json", "jwt_audience": "a"}, "jwt-keys needs jwt-issuer"),
    ],
)
def test_tokens_need_all_of_their_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(StartupError, match=says):
        Access(Settings(**settings))


def test_subjects_have_tenants_and_roles(tmp_path: Path) -> None:
    path = tmp_path / "subjects.toml"
    path.write_text('[subjects."CN=a,O=Ä"]\ntenant = "acme"\nrole = "admin"\n')
    assert read_subjects(path) == {"CN=a,O=Ä": Principal("acme", Role.ADMIN, "certificate CN=a,O=Ä")}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("[subjects", "tls-subjects .*: "),
        ("", "it has no table .subjects."),
        ("[subjects]", "it names no subject, so nobody could call"),
        ('[subjects."CN=a"]\nrole = "read"\n', "tenant None is not 1 to 64"),
        ('[subjects."CN=a"]\ntenant = "a"\nrole = "boss"\n', "role 'boss' is not one of read, write, admin"),
        ('[subjects]\n"CN=a" = "acme"\n', "an entry is"),
    ],
)
def test_a_file_of_subjects_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "subjects.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StartupError, match=says):
        read_subjects(path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, ""),
        ({"host": "::1"}, ""),
        ({"host": "localhost"}, ""),
        (
            {"host": "0.0.0.0"},
            "without TLS and authentication: .*; set --tls-cert with --tls-key and --api-keys, or --insec",
        ),
        ({"host": "example.org", "tls_cert": FILE}, "without authentication: .*; set --api-keys, or --insecure"),
        ({"host": "::", "insecure": True}, ""),
        ({"metrics_host": "0.0.0.0"}, ""),
        ({"metrics_host": "0.0.0.0", "page": True}, "listening on 0.0.0.0 without TLS and authentication"),
    ],
)
def test_an_open_address_is_warned_of(settings: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture) -> None:
    warn_if_exposed(Settings(**settings), Access(Settings()).gate)
    assert bool(caplog.records) == bool(says)
    assert re.search(says, caplog.text)
