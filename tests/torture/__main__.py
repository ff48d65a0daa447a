"""Inject one fault after the other, and report the results: python -m torture."""

import logging
import signal
import sys
import time
import traceback
from collections.abc import Sequence

import click

from torture.faults import FAULTS, Fault
from torture.load import Report

SHOWN = 10
"""Findings to print per fault."""


@click.command()
@click.option("--quick", is_flag=True, help="Inject each fault only a few times.")
@click.option(
    "--only", multiple=True, type=click.Choice([fault.name for fault in FAULTS]), help="Inject only this fault."
)
def main(quick: bool, only: Sequence[str]) -> None:
    """Print a line for each fault; exit with status 1 if anything is wrong."""
    logging.getLogger("statecast").setLevel(logging.ERROR)  # lost observations are expected
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # grpc.aio polls event loops that are already closed
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that servers are stopped
    wrong = 0
    for fault in FAULTS:
        if not only or fault.name in only:
            report = run(fault, quick=quick)
            click.echo(report.line(fault.name))
            for each in report.wrong[:SHOWN]:
                click.echo(f"    {each}")
            wrong += len(report.wrong)
    sys.exit(1 if wrong else 0)


def run(fault: Fault, *, quick: bool) -> Report:
    """Inject one fault; a failure of the harness counts as wrong."""
    started = time.perf_counter()
    try:
        report = fault.run(fault.quickly if quick else fault.times)
    except Exception:
        report = Report(0, wrong=[traceback.format_exc()])
    report.seconds = time.perf_counter() - started
    return report


if __name__ == "__main__":
    main()
