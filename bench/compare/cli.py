"""The command: python -m bench.compare."""

import dataclasses
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from .names import ECHO, HANDWRITTEN, OURS, TRITON
from .report import markdown
from .sizes import NORMAL, QUICK
from .stages import Bench

STAGES = ("floors", ECHO, HANDWRITTEN, TRITON, OURS, "secured", "grpcio", "sessions")


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "statecast-bench"


@click.command()
@click.option("--quick", is_flag=True, help="Two minutes instead of ten: short measurements, fewer sessions.")
@click.option("--only", multiple=True, type=click.Choice(STAGES), help="This stage alone; may be given more than once.")
@click.option(
    "--sessions", type=click.IntRange(min=1000), help="Sessions in Redis in the last stage.  [default: 100000]"
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=_default_cache,
    help="Where the peers' virtual environment is kept, 1.3 GB.  [default: statecast-bench in the user's cache]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default="bench-results.md",
    show_default=True,
    help="Where to write what was found.",
)
def main(quick: bool, only: Sequence[str], sessions: int | None, cache: Path, output: Path) -> None:
    """Measure Statecast, its peers and the floors of its parts on this machine, one after the other.

    Prints a Markdown report and writes it to a file. Exit status 1 if a stage was stopped by an error; a peer that
    cannot be set up is skipped, and the report says so.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that servers are stopped
    sizes = QUICK if quick else NORMAL
    if sessions:
        sizes = dataclasses.replace(sizes, sessions=sessions)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="statecast-bench-") as folder:
        bench = Bench(sizes, cache.absolute(), Path(folder), lambda line: click.echo(line, err=True))
        is_whole = [_carry_out(bench, stage) for stage in only or STAGES]
    report = markdown(bench.findings)
    output.write_text(report)
    click.echo(report)
    click.echo(f"{time.monotonic() - started:.0f} s; written to {output}", err=True)
    sys.exit(0 if all(is_whole) else 1)


def _carry_out(bench: Bench, stage: str) -> bool:
    """Run one stage and return whether it completed; an error is reported and the other stages still run."""
    try:
        bench.stages[stage]()
    except Exception as error:
        click.echo(traceback.format_exc(), err=True)
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        bench.skip(stage, f"stopped by {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return False
    return True
