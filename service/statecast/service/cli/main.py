"""The command line: statecast serve | train | evaluate | demo | health."""

import asyncio
import dataclasses
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

import click

from statecast.service import signals
from statecast.service.cli.config_file import config_option
from statecast.service.cli.data_options import read_data, series_options
from statecast.service.cli.training import evaluate, train
from statecast.service.errors import StartupError
from statecast.service.settings import Settings

PREFIX = "STATECAST_"
LONGEST_SECONDS = 1e6
PICTURES = (".png", ".pdf", ".svg")
F = TypeVar("F", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A duration: any number in range but infinity and NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is not finite; everything else is done by the base class."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number) or number > LONGEST_SECONDS:
            self.fail(f"{value} is not a number of at most {LONGEST_SECONDS:g}.", param, ctx)
        return number


def _click_type(hint: Any, metadata: dict[str, Any]) -> Any:
    base = next((arg for arg in get_args(hint) if arg is not NoneType), hint)
    if "choices" in metadata:
        return click.Choice(metadata["choices"])
    if base is int:
        return click.IntRange(**metadata)
    if base is float:
        return Seconds(**metadata)
    return click.Path(path_type=Path) if base is Path else base


class EnvironmentOption(click.Option):
    """An option whose variable may be one of a platform's own, or name a file that holds the value."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Read the variable, or what stands in the file that the variable with _FILE names."""
        name = str(self.envvar)
        value = super().resolve_envvar_value(ctx)
        # Kubernetes gives every pod such a variable for each service, as STATECAST_PORT=tcp://10.96.14.7:50051.
        if value is not None and name.endswith(("_PORT", "_HOST")) and "://" in value:
            click.echo(f"warning: {name}={value} is not a setting of ours, and is ignored", err=True)
            return None
        if value is not None or not self.is_secret:
            return value
        if (path := os.environ.get(f"{name}_FILE")) is None:
            return None
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{name}_FILE: {path} cannot be read: {error}", ctx, self) from error

    @property
    def is_secret(self) -> bool:
        """Whether its value may hold a password."""
        return self.name == "redis_url"


def setting_options(command: F) -> F:
    """Give a command one option a setting."""
    hints = get_type_hints(Settings)
    for setting in reversed(dataclasses.fields(Settings)):
        flag = "--" + setting.name.replace("_", "-")
        command = click.option(
            flag,
            setting.name,
            default=setting.default,
            is_flag=hints[setting.name] is bool,
            type=_click_type(hints[setting.name], setting.metadata["click"]),
            envvar=PREFIX + setting.name.upper(),
            allow_from_autoenv=False,
            show_envvar=True,
            show_default=setting.default not in (None, ""),
            help=setting.metadata["help"],
            cls=EnvironmentOption,
        )(command)
    return command


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": PREFIX.rstrip("_"),
    }
)
@click.version_option(package_name="statecast", allow_from_autoenv=False)  # images like to set STATECAST_VERSION
def main() -> None:
    """Forecasts with streaming state: one LSTM, many sessions, nothing lost."""


@main.command()
@config_option(what="settings", envvar=PREFIX + "CONFIG")
@setting_options
def serve(**options: Any) -> None:
    """Serve forecasts over gRPC until SIGTERM or Ctrl-C.

    Without --redis-url an embedded Redis keeps the sessions, so that this command alone is a complete service.
    """
    signals.end_when_asked()
    from statecast.service.server import run  # torch is imported only now, so that --help is quick

    settings = Settings(**options)
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # A call that the transport has ended, for a message too large say, cannot be answered: no news, and no traceback.
    logging.getLogger("grpc._cython.cygrpc").addFilter(
        lambda record: not str(record.msg).startswith("ExecuteBatchError")
    )
    try:
        asyncio.run(run(settings))
    except StartupError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Stream the series of this CSV or Parquet file instead.",
)
@series_options
@click.option("--seconds", type=Seconds(min=2), default=20.0, show_default=True, help="How long to stream.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="statecast-demo.png",
    show_default=True,
    help="Where to write the picture.",
)
def demo(data: Path | None, seconds: float, output: Path, **options: Any) -> None:
    """Forecast live data, kill the server half-way, and see every session go on where it was.

    Streams this machine's own telemetry, or with --data series of yours: the first four, 400 rows of each live.
    """
    _check_output(output)
    from statecast.model import ModelError
    from statecast.service.demo import source, story  # pandas, matplotlib and more, for this command alone
    from statecast.testing import ServerFailed

    signals.end_when_asked()  # so that server and folder are cleared away
    os.environ["no_grpc_proxy"] = "127.0.0.1"  # noqa: SIM112
    try:
        series = source.recorded(data.name, read_data(data, options)) if data else source.telemetry(seconds)
        story.tell(series, output)
    except (ModelError, source.SourceError, story.DemoFailed, ServerFailed) as error:
        raise click.ClickException(str(error)) from error


def _check_output(output: Path) -> None:
    """Better before the demo than after."""
    if output.suffix not in PICTURES:
        raise click.UsageError(f"--output: {output.name} should end in {', '.join(PICTURES)}")
    if not output.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {output.parent}")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise click.UsageError(f"--output: {output.resolve()} cannot be written")


@main.command()
@click.option("--target", default="localhost:50051", show_default=True, help="Host and port of the server's gRPC.")
@click.option("--timeout-seconds", type=Seconds(min=0.1), default=3.0, show_default=True, help="How long to wait.")
@click.option(
    "--service",
    default="",
    help="Ask whether this service is ready, such as statecast.v1.ForecastService; else whether the server is up.",
)
def health(target: str, timeout_seconds: float, service: str) -> None:
    """Ask a server whether it serves: status 0 if it does, else 1 and why not.

    A server that is up is ready as well, unless its Redis cannot be used.
    """
    from statecast.service.cli.health import ask

    if (answer := ask(target, timeout_seconds, service)) != "SERVING":
        raise click.ClickException(answer)
    click.echo(answer)


main.add_command(train)
main.add_command(evaluate)
