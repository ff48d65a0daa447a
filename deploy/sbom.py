"""Writes the software bill of materials of an installed server, in CycloneDX's JSON.

    .venv/bin/python deploy/sbom.py

cyclonedx-py lists every package of the environment; this keeps those that the extra `server` needs. Nothing is
downloaded, and the same environment gives the same file: it has no time and no serial number.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILE = ROOT / "statecast.cdx.json"
WANTED = "statecast[server]"


class Missing(Exception):
    """A package that the server needs is not installed; the message names it."""


def needed(wanted: str = WANTED) -> set[str]:
    """Return the canonical names of all packages that an installed one needs, without its own.

    Raises:
        Missing: if one of them is not installed.
    """
    root = Requirement(wanted)
    found: dict[str, set[str]] = {}
    waiting = [root]
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), {"", *requirement.extras}
        new = extras - found.setdefault(name, set())
        found[name] |= extras
        waiting.extend(_requirements(name, new))
    return set(found) - {canonicalize_name(root.name)}


def _requirements(name: str, extras: set[str]) -> Iterator[Requirement]:
    """Yield what an installed package needs on this machine with one of these extras."""
    try:
        lines = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError as error:
        raise Missing(f"{name} is not installed; run `make serve` once, or install the extra 'server'") from error
    for requirement in map(Requirement, lines if extras else ()):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def bill() -> dict[str, Any]:
    """Return the bill of materials in CycloneDX's JSON.

    Raises:
        Missing: if the server is not installed completely.
    """
    kept = needed()
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--output-format", "JSON"]
    command += ["--no-validate"]  # the tests do; it takes most of the time
    command += ["--pyproject", str(ROOT / "pyproject.toml"), sys.executable]
    everything = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return reduced(everything, kept)


def reduced(everything: dict[str, Any], kept: set[str]) -> dict[str, Any]:
    """Return a bill of materials with only these packages, and their dependencies among each other."""
    components = [each for each in everything["components"] if canonicalize_name(each["name"]) in kept]
    root = everything["metadata"]["component"]["bom-ref"]
    refs = {root, *(each["bom-ref"] for each in components)}
    direct = {canonicalize_name(each.name) for each in _requirements("statecast", {"", "server"})}
    first = sorted(each["bom-ref"] for each in components if canonicalize_name(each["name"]) in direct)
    dependencies = []
    for each in everything["dependencies"]:
        if each["ref"] in refs:
            needs = first if each["ref"] == root else sorted(refs.intersection(each.get("dependsOn", ())))
            dependencies.append({"ref": each["ref"], **({"dependsOn": needs} if needs else {})})
    licensed = [{"licenses": _licenses(each["name"]), **each} for each in components]
    return {**everything, "components": licensed, "dependencies": dependencies}


def _licenses(name: str) -> list[dict[str, Any]]:
    """Return what a package without an SPDX licence says itself: its field `License`, or the title of its licence."""
    distribution = importlib.metadata.distribution(name)
    said = "".join(distribution.metadata.get_all("License") or ())
    files = [each for each in distribution.files or () if "licen" in each.name.lower()]
    text = said or (files[0].read_text() if files else "")
    title = next(iter(text.strip().splitlines()), "")
    return [{"license": {"name": title}}] if title else []


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write the software bill of materials of the installed server.")
    parser.add_argument("--output", type=Path, default=FILE, help="file to write (default: %(default)s)")
    output = parser.parse_args().output
    try:
        found = bill()
    except Missing as error:
        sys.exit(f"error: {error}")
    output.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    print(f"{output}: {len(found['components'])} packages")


if __name__ == "__main__":
    main()
