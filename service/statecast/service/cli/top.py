"""The command `statecast top`: a live view of a running server, from its metrics."""

import json
import os
import ssl
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import click

from statecast.service import signals
from statecast.service.cli.client_options import refused

if TYPE_CHECKING:
    from rich.console import Console

    from statecast.service.cli.readings import Reading
    from statecast.service.scrape import Scrape

WIDTH = 100
"""Width of the output in columns, if it does not go to a terminal."""
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 3600.0


@click.command()
@click.option(
    "--metrics-url", default="http://127.0.0.1:9464/metrics", show_default=True, help="Address of the server's metrics."
)
@click.option(
    "--interval", type=click.FloatRange(SHORTEST_SECONDS, LONGEST_SECONDS), default=2.0, show_default=True,
    help="Seconds between two readings.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print one reading after one interval, and exit.")
@click.option(
    "--output", type=click.Choice(("table", "json")), default="table", show_default=True,
    help="Format of the output; json needs --once.",
)  # fmt: skip
@click.option(
    "--ca", type=click.Path(path_type=Path),
    help="PEM file with the certificates to trust, for https; by default that of the variable STATECAST_CA.",
)  # fmt: skip
@click.option(
    "--api-key",
    help="API key whose role is admin, if the server asks for one; by default that of the variable STATECAST_API_KEY. "
    "Prefer the variable: every user of this machine can see the command line, as with ps.",
)
def top(metrics_url: str, interval: float, once: bool, output: str, ca: Path | None, api_key: str | None) -> None:
    """Show what a server does: requests, latency, queue, cache, Redis and memory, until Ctrl-C.

    Rates and quantiles are those of the last interval.
    """
    if output == "json" and not once:
        raise click.UsageError("--output json needs --once, which prints one reading")
    source = Source(metrics_url, ca, api_key)
    if once:
        _print_once(source, interval, output)
        return
    signals.end_when_asked()  # so that the terminal's cursor comes back
    try:
        _show(source, interval)
    except KeyboardInterrupt:
        return


class Source:
    """The metrics of one server, read again and again."""

    def __init__(self, url: str, ca: Path | None, api_key: str | None) -> None:
        """Check the address and the credential.

        Raises:
            click.ClickException: One of them is wrong, or the key would be sent unencrypted to another machine.
        """
        self.url = _checked(url)
        is_encrypted = self.url.startswith("https://")
        if ca is not None and not is_encrypted:
            raise click.ClickException("--ca: needs https://; --metrics-url begins with http://")
        self._headers = _headers(self.url, api_key, is_encrypted=is_encrypted)
        self._context = _context(ca) if is_encrypted else None
        self._before: Scrape | None = None
        self._at = 0.0

    def read(self) -> "Reading | None":
        """Return the reading since the last call; None the first time.

        Raises:
            ScrapeError: The metrics cannot be read; the next call counts as the first.
        """
        from statecast.service.cli.readings import REQUESTS, read
        from statecast.service.scrape import Scrape, ScrapeError, fetch

        before, self._before = self._before, None
        now, at = Scrape.parse(fetch(self.url, self._headers, self._context)), time.monotonic()
        if REQUESTS not in now:
            raise ScrapeError("these are no metrics of Statecast; check the address")
        self._before, seconds, self._at = now, at - self._at, at
        return None if before is None else read(before, now, seconds)


def _print_once(source: Source, interval: float, output: str) -> None:
    from statecast.service.scrape import ScrapeError

    try:
        while (reading := source.read()) is None:
            time.sleep(interval)
    except ScrapeError as error:
        raise click.ClickException(f"{source.url}: {error}") from error
    if output == "json":
        click.echo(json.dumps(reading.as_json(), indent=2))
    else:
        from statecast.service.cli.top_view import view

        _console().print(view(source.url, reading, ""))


def _show(source: Source, interval: float) -> None:
    from rich.live import Live

    from statecast.service.cli.top_view import view
    from statecast.service.scrape import ScrapeError

    console = _console()
    reading: Reading | None = None
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not console.is_dumb_terminal else None
    with live or nullcontext():
        while True:
            problem, started = "", time.monotonic()
            try:
                reading = source.read()
            except ScrapeError as error:
                problem = str(error)
            shown = view(source.url, reading, problem)
            if live:
                live.update(shown, refresh=True)
            elif problem or reading:
                console.print(shown, "")
            time.sleep(max(0.0, started + interval - time.monotonic()))


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def _checked(url: str) -> str:
    """Return the address of the metrics; /metrics is its path unless it has another.

    Raises:
        click.ClickException: It is not an address of the web.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        hint = f", such as http://{url}" if "://" not in url else ""
        raise click.ClickException(f"--metrics-url: {url!r} is not an address with http:// or https://{hint}")
    if parts.username is not None or parts.password is not None:
        raise click.ClickException("--metrics-url: holds a user or password; give a credential with --api-key")
    return urlunsplit(parts._replace(path="/metrics")) if parts.path in ("", "/") else url


def _headers(url: str, api_key: str | None, *, is_encrypted: bool) -> dict[str, str]:
    """Return the header with the key. One of the environment is left out where it would be sent unencrypted.

    Raises:
        click.ClickException: The key is wrong, or would be sent unencrypted to another machine.
    """
    from statecast.client import InvalidArgument
    from statecast.client._connection import resolve_credential
    from statecast.client._target import is_loopback

    try:
        key, _ = resolve_credential(api_key, None, may_wait=False)
    except InvalidArgument as error:
        raise refused(error) from error
    if key is not None and not is_encrypted and not is_loopback(urlsplit(url).netloc):
        if api_key is not None:
            raise click.ClickException("--api-key: is not sent unencrypted to another machine; use https://")
        key = None
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _context(ca: Path | None) -> ssl.SSLContext:
    field = "--ca" if ca is not None else "STATECAST_CA"
    path = ca if ca is not None else os.environ.get("STATECAST_CA") or None
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise click.ClickException(
            f"{field}: {path} cannot be read as a PEM file with certificates: {error}"
        ) from error
