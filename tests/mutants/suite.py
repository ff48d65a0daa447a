"""Run the test suite on a copy of the sources until a test fails, most likely folders first."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutants.tree import run_python

STORE = (
    "tests/service/store/test_redis_store.py",
    "tests/service/store/test_record.py",
    "tests/service/store/test_cluster.py",
)
HISTORIES = "tests/service/engine/test_histories.py"
"""A test that catches nearly every bug, but slowly."""
ENGINE = ("tests/service/engine", f"--ignore={HISTORIES}")
TRANSPORT = ("tests/service/transport",)
RPC = ("tests/service/rpc",)
CLIENT = ("tests/client", "--ignore=tests/client/test_typing.py")
BESIDE_THE_POINT = (
    "tests/mutants",
    "tests/fuzz",
    "tests/model",
    "tests/client/test_typing.py",
    "tests/service/demo",
    "tests/service/store/test_embedded.py",
    "tests/test_docs.py",
    "tests/test_packaging.py",
)
"""Tests that would catch such a bug only by accident."""
TIMEOUT_SECONDS = 60
"""Limit of one test, because a bug may make it wait forever."""
STAGE_TIMEOUT_SECONDS = 1800
PASSED, FAILED = 0, 1
_FAILED = re.compile(r"^FAILED (.*?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a test run.

    Attributes:
        failed: The test that failed, or None.
        problem: The reason why the tests could not run; empty if they ran.
    """

    failed: str | None = None
    problem: str = ""


def stages(touched: Sequence[str]) -> list[list[str]]:
    """Return the stages to run for a bug in these files; the last stage is the rest of the tests."""
    if any(name.startswith("client/") for name in touched):
        first = [[*CLIENT], [*ENGINE, *STORE, *RPC]]
    elif any("/transport/" in name for name in touched):
        first = [[*TRANSPORT, *RPC], [*CLIENT]]
    elif any("/store/" in name for name in touched):
        first = [[*STORE, *ENGINE], [HISTORIES, *RPC, *CLIENT]]
    else:
        first = [[*ENGINE, *STORE], [HISTORIES, *RPC, *CLIENT]]
    seen = [path for stage in first for path in stage if not path.startswith("--")]
    return [*first, ["tests", *(f"--ignore={path}" for path in (*seen, *BESIDE_THE_POINT))]]


def first_failure(folder: Path, touched: Sequence[str]) -> Verdict:
    """Return the first test that fails twice in `folder`; a flaky test proves nothing."""
    passed_over: list[str] = []
    for stage in stages(touched):
        while (verdict := run(folder, [*stage, *(f"--deselect={test}" for test in passed_over)])).failed:
            if run(folder, [verdict.failed]).failed:
                return verdict
            passed_over.append(verdict.failed)
        if verdict.problem:
            return verdict
    return Verdict()


def run(folder: Path, arguments: Sequence[str]) -> Verdict:
    """Run some tests in `folder` until one fails."""
    # The seed is fixed, so that a bug found by chance is found again.
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--timeout={TIMEOUT_SECONDS}"]
    try:
        done = run_python(folder, ["-m", "pytest", *options, *arguments], STAGE_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return Verdict(problem=f"the tests took more than {STAGE_TIMEOUT_SECONDS} s")
    if done.returncode == PASSED:
        return Verdict()
    # A test that fails in setup or collection proves nothing.
    failed = _FAILED.search(done.stdout)
    if done.returncode == FAILED and failed:
        return Verdict(failed.group(1))
    return Verdict(problem=f"the tests could not be run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
