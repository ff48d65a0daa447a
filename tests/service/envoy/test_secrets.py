"""The private key that Envoy reads lies in memory, and old keys are forgotten."""

import json
import os
import sys
from pathlib import Path

import pytest

from statecast.service.access.certificates import Certificates
from statecast.service.envoy.secrets import Secrets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, the key lies in the file")


def test_the_newest_private_key_is_read_by_its_name_and_the_one_before_stays(tmp_path: Path) -> None:
    before, secrets = set(os.listdir("/proc/self/fd")), Secrets(tmp_path)
    named: list[Path] = []
    for number in range(5):
        secrets.write(Certificates(b"chain", f"key {number}".encode(), b"authorities", 0.0))
        (resource,) = json.loads((tmp_path / "server.json").read_text())["resources"]
        named.append(Path(resource["tls_certificate"]["private_key"]["filename"]))
        assert [path.read_text() for path in named[-2:]] == [f"key {each}" for each in range(number + 1)[-2:]]
        assert len(secrets.descriptors) <= 2
    assert not [path for path in tmp_path.iterdir() if "key 4" in path.read_text()]
    secrets.close()
    assert set(os.listdir("/proc/self/fd")) == before
