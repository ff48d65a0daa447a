"""Fuzz a server and report the findings: python -m fuzz."""

import asyncio
import sys
from collections.abc import Iterator, Sequence

import click

from fuzz.crowds import crowd, torrent
from fuzz.fuzz import fuzz
from fuzz.place import Bystanders, own_place
from fuzz.rpcs import RPCS

SHOWN = 12
"""Findings to print per kind of input."""
STREAMS, LIMIT = 10_000, 1000
"""Streams opened at once, and the server's default limit."""
TINY_REQUESTS = 100_000
CROWDS = "streams"


@click.command()
@click.option("--examples", default=50_000, help="How many examples in all, shared among the RPCs.")
@click.option("--seed", default=0, help="Another one gives other examples.")
@click.option("--only", multiple=True, type=click.Choice([*RPCS, CROWDS]), help="This alone.")
def main(examples: int, seed: int, only: Sequence[str]) -> None:
    """Print a line for each RPC and each crowd of streams; exit with status 1 if anything is wrong."""
    wrong = 0
    chosen = [rpc for name, rpc in RPCS.items() if not only or name in only]
    with own_place() as place:
        for rpc in chosen:
            report = fuzz(place, rpc, -(-examples // len(chosen)), seed)
            wrong += _tell(str(report), report.findings)
    if not only or CROWDS in only:
        for line, findings in _crowds():
            wrong += _tell(line, findings)
    sys.exit(1 if wrong else 0)


def _crowds() -> Iterator[tuple[str, list[str]]]:
    """Open very many streams, refused and then accepted, and one stream with very many requests."""
    for limit in (LIMIT, STREAMS):
        with own_place("--max-streams", str(limit)) as place:
            bystanders = Bystanders(place.stub, "crowds")
            for sending in (False, True):
                report = asyncio.run(crowd(place, STREAMS, limit, sending=sending))
                kind = "sending" if sending else "silent"
                yield f"{kind}, at most {limit:,}: {report}", report.wrong + bystanders.wrong()
    with own_place() as place:
        report = asyncio.run(torrent(place, TINY_REQUESTS, 1))
        yield f"{TINY_REQUESTS:,} tiny requests, at first unread: {report}", report.wrong


def _tell(line: str, findings: list[str]) -> int:
    click.echo(line)
    for finding in findings[:SHOWN]:
        click.echo(f"    {finding}")
    return len(findings)


if __name__ == "__main__":
    main()
