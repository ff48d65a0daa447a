"""Who is admitted by what, and how wrong credentials are slowed down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from statecast.service.access import api_keys
from statecast.service.access.gate import Gate, network_of
from statecast.service.access.key_file import KeyFile
from statecast.service.access.principal import ANYBODY, Principal, Role, principal_of
from statecast.service.errors import Overloaded, Unauthenticated
from statecast.v1.reasons import Reason


@dataclass
class Call:
    """What a call shows."""

    header: str | None = None
    certificate: str | None = None
    address: str = "10.0.0.1"

    def peer(self) -> str:
        return f"{self.address}:1234"

    def authorization(self) -> str | None:
        return self.header

    def subject(self) -> str | None:
        return self.certificate


SUBJECTS: Mapping[str, Principal] = {"CN=meter": principal_of("acme", "read", "certificate CN=meter")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def why(gate: Gate, call: Call) -> Reason:
    with pytest.raises(Unauthenticated) as caught:
        gate.admit(call)
    return caught.value.reason


def test_without_any_method_everybody_is_admitted() -> None:
    assert Gate().admit(Call()) == ANYBODY
    assert Gate().admit(Call("Bearer nonsense")) == ANYBODY
    assert Gate().may_read(None)


def test_a_header_goes_before_a_certificate(path: Path) -> None:
    _, key = api_keys.create(path, "acme", "write")
    gate = Gate(KeyFile(path), subjects=SUBJECTS)
    assert gate.admit(Call(f"bearer {key}", "CN=meter")).role is Role.WRITE
    assert gate.admit(Call(None, "CN=meter")).role is Role.READ
    assert why(gate, Call("Bearer nonsense", "CN=meter")) is Reason.CREDENTIAL_INVALID
    assert why(gate, Call(None, "CN=other")) is Reason.CREDENTIAL_MISSING


def test_only_certificates_says_so() -> None:
    with pytest.raises(Unauthenticated, match="not taken: only certificates are"):
        Gate(subjects=SUBJECTS).admit(Call("Bearer sck_x"))


def test_an_address_that_guesses_is_slowed_down_and_its_neighbours_are_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("statecast.service.access.throttle.time.monotonic", lambda: now)
    _, known = api_keys.create(path, "acme", "write")
    _, other = api_keys.create(path, "acme", "write")
    gate = Gate(KeyFile(path), max_wrong=3)
    gate.admit(Call(f"Bearer {known}"))
    for number in range(3):
        assert why(gate, Call(f"Bearer wrong {number}")) is Reason.CREDENTIAL_INVALID
    with pytest.raises(Overloaded, match="3 wrong credentials within a minute") as caught:
        gate.admit(Call("Bearer wrong 3"))
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    assert caught.value.retry_after_seconds == pytest.approx(20)
    for right in (known, other):  # nobody can lock its owner out
        assert gate.admit(Call(f"Bearer {right}")).role is Role.WRITE
    assert why(gate, Call("Bearer wrong 4", address="10.0.0.2")) is Reason.CREDENTIAL_INVALID
    assert why(gate, Call()) is Reason.CREDENTIAL_MISSING
    now += 20.1
    assert why(gate, Call("Bearer wrong again")) is Reason.CREDENTIAL_INVALID
    with pytest.raises(Overloaded):
        gate.admit(Call("Bearer wrong once more"))


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("10.0.0.1:5", "10.0.0.1"),
        ("ipv4:10.0.0.1:5", "10.0.0.1"),
        ("ipv6:%5B2001:db8::1%5D:5", "2001:db8::/64"),
        ("[2001:db8::ffff:2]:5", "2001:db8::/64"),
        ("2001:db8::1:5", "2001:db8::/64"),
        ("unix:", "unix"),
    ],
)
def test_an_address_is_known_by_its_network(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_subjects_without_any_entry_admit_nobody() -> None:
    assert why(Gate(subjects={}), Call(None, "CN=meter")) is Reason.CREDENTIAL_MISSING


def test_a_revoked_key_is_forgotten_although_it_was_right(path: Path) -> None:
    key_id, key = api_keys.create(path, "acme", "admin")
    file = KeyFile(path)
    gate = Gate(file)
    principal = gate.admit(Call(f"Bearer {key}"))
    assert gate.may_read(f"Bearer {key}")
    api_keys.revoke(path, key_id)
    assert file.look()
    assert isinstance(gate.refusal(principal), Unauthenticated)
    assert why(gate, Call(f"Bearer {key}")) is Reason.CREDENTIAL_INVALID
    assert not gate.may_read(f"Bearer {key}")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic x", "sck_1", "Bearer \udcff", "Bearer " + "x" * 100_000]
)
def test_any_header_gets_an_answer(path: Path, header: str) -> None:
    api_keys.create(path, "acme", "write")
    gate = Gate(KeyFile(path))
    assert why(gate, Call(header)) is Reason.CREDENTIAL_INVALID
    assert not gate.may_read(header)
