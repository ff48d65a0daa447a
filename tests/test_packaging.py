"""Contents of the built packages, and of an install of the client alone."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
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
    "statecast/service/store/head.lua",
    "statecast/service/page/static/index.html",
    "statecast/service/page/static/app.js",
    "statecast/service/page/static/style.css",
    "statecast/service/page/static/icon.svg",
    "statecast/model/bundled/base/2/config.json",
    "statecast/model/bundled/base/2/model.safetensors",
    "statecast/client/py.typed",
}
HEAVY = {"torch", "redis", "click", "pandas", "prometheus_client", "opentelemetry", "opentelemetry-api"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the wheel and the sdist."""
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
    assert said.stderr.strip().endswith("click is not installed; it needs the extra 'server' (docs/installation.md)")
    version, *modules = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(modules)
    installed = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & {line.split()[0].lower() for line in installed.splitlines()}
    assert int(version.split(".")[0]) >= 6  # the newest protobuf that the stubs allow


@pytest.mark.slow
def test_type_checkers_know_every_type_of_the_client(built: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    zipfile.ZipFile(built[0]).extractall(site)
    (site / "what_it_needs.pth").write_text(sysconfig.get_path("purelib"))  # the editable install there is not followed
    path = os.pathsep.join([str(tmp_path / "venv" / "bin"), os.environ["PATH"]])
    command = [sys.executable, "-m", "basedpyright", "--verifytypes", "statecast.client", "--ignoreexternal"]
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert str(site / "statecast" / "client") in done.stdout
    assert "Type completeness score: 100%" in done.stdout, done.stdout


def test_one_page_alone_says_how_to_install() -> None:
    """Until the first release no package has that name."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    code = [path for folder in ("client", "model", "service", "proto") for path in (ROOT / folder).rglob("*.py")]
    for path in [*pages, *code]:
        text = path.read_text()
        assert "pip install statecast" not in text, path
        assert "'statecast[" not in text, path
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "installation.md").read_text()
    assert all(extra in page for extra in extras if extra != "dev")


def test_commands_for_other_peoples_servers_need_no_torch() -> None:
    """The packages of `statecast[cli]` must suffice for `statecast health`."""
    code = """
import sys
for name in ("torch", "redis", "pandas", "matplotlib", "prometheus_client", "hiredis", "psutil", "pyvoy"):
    sys.modules[name] = None
sys.argv = ["statecast", "health", "--target", "127.0.0.1:1", "--timeout-seconds", "0.2"]
from statecast.service.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "UNAVAILABLE" in done.stderr or "DEADLINE_EXCEEDED" in done.stderr
    code = code.replace('"health", "--target", "127.0.0.1:1", "--timeout-seconds", "0.2"', '"serve"')
    served = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is not installed; it needs the extra 'server' (docs/installation.md)" in served.stderr
    assert "Traceback" not in served.stderr
