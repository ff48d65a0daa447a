"""The folder of compiled kernels is private, and another one for every version."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from statecast.model.kernels import cache as cache_module
from statecast.model.kernels.cache import KernelCache, KernelError, digest

SECONDS = 30


def test_the_folder_is_private_and_named_by_a_digest(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "kernels")
    assert cache.folder == tmp_path / "kernels" / digest()
    assert not cache.note
    assert not cache.is_complete
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (cache.folder, cache.folder.parent))


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(KernelError, match=r"kernel-cache .* cannot be used: others may write to .* use chmod 700"):
        KernelCache(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(KernelError, match=r"kernel-cache .* cannot be used"):
        KernelCache(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(KernelError, match="belongs to another user; choose a folder of your own"):
        KernelCache(tmp_path)


def test_without_a_home_the_folder_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").touch()  # no folder can be made in it
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cache = KernelCache()
    assert cache.note
    assert cache.folder.is_dir()
    cache.close()
    assert not cache.folder.exists()


def test_the_digest_tells_the_code_and_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = digest()
    monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
    assert digest() != here
    monkeypatch.delenv("NUMBA_CPU_NAME")
    package = Path(cache_module.__file__).parents[1]
    copied = tmp_path / "model"
    shutil.copytree(package, copied, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    monkeypatch.setattr(cache_module, "__file__", str(copied / "kernels" / "cache.py"))
    assert digest() == here
    with (copied / "inputs" / "features.py").open("a") as code:
        code.write("\n")
    assert digest() != here


def test_a_processor_that_this_machine_is_not_is_not_compiled_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CPU_NAME", "future")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+sse2,+not-invented")
    KernelCache(tmp_path / "kernels")
    assert "NUMBA_CPU_NAME" not in os.environ
    assert "NUMBA_CPU_FEATURES" not in os.environ


def test_kernels_that_were_installed_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "INSTALLED", tmp_path / "installed")
    installed = tmp_path / "installed" / digest()
    installed.mkdir(parents=True)
    (installed / "code.nbc").write_text("code")
    assert not KernelCache(tmp_path / "unfinished").is_complete
    (installed / "complete").touch()
    cache = KernelCache(tmp_path / "kernels")
    assert cache.is_complete
    assert (cache.folder / "code.nbc").read_text() == "code"


@pytest.mark.slow
def test_the_process_that_compiles_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "kernels")
    code = (
        "import pathlib, sys, time; from statecast.model.kernels.cache import KernelCache; "
        "built = KernelCache(pathlib.Path(sys.argv[1])).start_build(); print(built.pid, flush=True); time.sleep(99)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "kernels")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        builder = int(starter.stdout.readline())
        time.sleep(1)
        starter.kill()
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{builder}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{builder}").exists()
    assert not cache.is_complete
