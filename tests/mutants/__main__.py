"""Apply each bug to a copy of the sources, and report the test that catches it: python -m mutants."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from mutants import suite
from mutants.suite import Verdict
from mutants.tree import apply, copy_sources, patches, require_own_sources, sentence, touched


@click.command()
@click.argument("names", nargs=-1)
@click.option("--no-baseline", is_flag=True, help="Skip the check that the same tests pass without a bug.")
def main(names: Sequence[str], no_baseline: bool) -> None:
    """Print a line for each mutant; exit with status 1 if one survives or no longer applies."""
    chosen = [patch for patch in patches() if not names or any(name in patch.stem for name in names)]
    if not chosen:
        raise click.UsageError("no mutant's name contains that")
    catching: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        clean = Path(name).resolve() / "clean"
        copy_sources(clean)
        for patch in chosen:
            if test := _try(patch, clean):
                catching.setdefault(test, set()).add(patch.stem)
        disproved = set() if no_baseline else _disproved(clean, catching)
    caught = set().union(*catching.values()) - disproved
    click.echo(f"{len(caught)} of {len(chosen)} caught")
    sys.exit(0 if len(caught) == len(chosen) else 1)


def _try(patch: Path, clean: Path) -> str | None:
    """Return the test that catches the bug, or None."""
    started = time.perf_counter()
    with _copy_of(clean) as folder:
        if problem := apply(patch, folder):
            verdict = Verdict(problem=f"does not apply: {problem}")
        else:
            require_own_sources(folder)
            verdict = suite.first_failure(folder, touched(patch))
    told = f"caught by {verdict.failed}" if verdict.failed else verdict.problem or f"SURVIVED: {sentence(patch)}"
    click.echo(f"{patch.stem}: {told}, {time.perf_counter() - started:.1f} s")
    return verdict.failed


def _disproved(clean: Path, catching: dict[str, set[str]]) -> set[str]:
    """Return the mutants whose test also fails without a bug and so proves nothing."""
    disproved: set[str] = set()
    tests = dict(catching)
    with _copy_of(clean) as folder:
        require_own_sources(folder)
        while tests and (verdict := suite.run(folder, list(tests))) != Verdict():
            click.echo(f"without any bug: {verdict.failed or verdict.problem}")
            if verdict.failed not in tests:
                return set().union(*catching.values())
            disproved |= tests.pop(verdict.failed)
    return disproved


@contextmanager
def _copy_of(clean: Path) -> Iterator[Path]:
    """Make a temporary copy of the sources."""
    folder = clean.with_name("mutant")
    shutil.copytree(clean, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
