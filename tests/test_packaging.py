"""What is built and what an install of the client alone brings."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = {
    "statecast/v1/forecast_service.proto",
    "statecast/v1/forecast_service_pb2.py",
    "statecast/v1/forecast_service_pb2.pyi",
    "statecast/v1/forecast_service_pb2_grpc.py",
    "statecast/v1/py.typed",
    "statecast/service/store/commit.lua",
    "statecast/model/bundled/base/1/config.json",
    "statecast/model/bundled/base/1/model.safetensors",
    "statecast/client/py.typed",
}
HEAVY = {"torch", "redis", "click", "pandas", "prometheus_client"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_the_wheel_holds_all_that_runs(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    assert names >= NEEDED
    assert not [name for name in names if name.startswith(("tests/", "bench/")) or "/." in name]
    assert "statecast/__init__.py" not in names


def test_the_sdist_holds_sources_and_licence(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "proto/statecast/v1/forecast.proto", "tests/conftest.py"} <= names


def test_the_base_install_is_a_client_without_anything_heavy(built: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(built[0])], check=True)
    code = "import sys, statecast.client, google.protobuf as p; print(p.__version__, *sys.modules)"
    said = subprocess.run([tmp_path / "bin" / "statecast", "serve"], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert said.stderr.strip().endswith("pip install 'statecast[server]'")
    version, *modules = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(modules)
    installed = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & {line.split()[0].lower() for line in installed.splitlines()}
    assert int(version.split(".")[0]) >= 6  # the newest protobuf that the stubs allow
