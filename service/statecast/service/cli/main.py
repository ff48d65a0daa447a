"""The command line: statecast serve, train, evaluate, forecast, demo, health, keys, sessions, models, top and redis."""

import asyncio
import dataclasses
import json
import logging
import math
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

import click
from click.core import ParameterSource

from statecast.service import signals
from statecast.service.cli.client_options import client_options, refused
from statecast.service.cli.config_file import config_option
from statecast.service.cli.data_options import read_data, series_options
from statecast.service.cli.forecasting import forecast
from statecast.service.cli.keys import keys
from statecast.service.cli.models import models
from statecast.service.cli.redis_check import redis
from statecast.service.cli.sessions import sessions
from statecast.service.cli.top import top
from statecast.service.cli.training import evaluate, train
from statecast.service.errors import EngineStopped, StartupError
from statecast.service.log import configure_logging
from statecast.service.settings import Settings

log = logging.getLogger(__name__)

PREFIX = "STATECAST_"
LONGEST_SECONDS = 1e6
PICTURES = (".png", ".pdf", ".svg")
F = TypeVar("F", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A duration: a finite number in range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse infinity, NaN and numbers that are too large."""
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
    """Option that ignores variables set by Kubernetes, and can read its value from a file."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the variable, or the contents of the file that the variable with _FILE names."""
        name = str(self.envvar)
        value = super().resolve_envvar_value(ctx)
        # Kubernetes sets such a variable for each service, for example STATECAST_PORT=tcp://10.96.14.7:50051.
        if value is not None and name.endswith(("_PORT", "_HOST")) and "://" in value:
            click.echo(f"warning: {name}={value} is ignored: it looks like a variable set by Kubernetes", err=True)
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
        """True if the value may contain a password."""
        return self.name == "redis_url"


def setting_options(command: F) -> F:
    """Add one option per setting to a command."""
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
    """Forecasting service with streaming state: serve, train, evaluate."""


@main.command()
@config_option(what="settings", envvar=PREFIX + "CONFIG")
@setting_options
@click.option("--print-envoy-config", is_flag=True, help="Print the configuration of Envoy and exit.")
def serve(*, print_envoy_config: bool, **options: Any) -> None:
    """Serve forecasts over gRPC until SIGTERM or Ctrl-C.

    Without --redis-url, an embedded Redis stores the sessions; nothing else is needed.
    """
    signals.end_when_asked()
    settings = Settings(**options)
    configure_logging(settings.log_level, settings.log_format)
    try:
        if print_envoy_config:
            click.echo(_envoy_config(settings))
        else:
            asyncio.run(_serving(settings))
    except (StartupError, EngineStopped) as error:
        if settings.log_format == "json":
            log.critical("%s", error)
            raise SystemExit(1) from error
        raise click.ClickException(str(error)) from error


def _serving(settings: Settings) -> Coroutine[Any, Any, None]:
    """Return the server over the transport that is asked for, or that can be used."""
    from statecast.service.envoy import launcher

    reason = "--transport grpc" if settings.transport == "grpc" else launcher.why_not()
    if reason and settings.transport == "envoy":
        raise StartupError(f"transport envoy cannot be used: {reason}")
    if not reason:
        return launcher.run(settings)
    log.info("gRPC is spoken by grpcio, not by Envoy: %s", reason)
    from statecast.service.server import run  # imports torch, which would slow down --help

    return run(settings)


def _envoy_config(settings: Settings) -> str:
    from statecast.service.envoy import launcher

    if reason := launcher.why_not():
        raise StartupError(f"there is no configuration of Envoy: {reason}")
    return json.dumps(launcher.own_configuration(settings, Path("admin.sock")), indent=2)


@main.command()
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Stream the series of this CSV or Parquet file instead of telemetry.",
)
@series_options
@click.option("--seconds", type=Seconds(min=2), default=20.0, show_default=True, help="Time to stream.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="statecast-demo.png",
    show_default=True,
    help="File for the picture: .png, .pdf or .svg.",
)
@click.option("--keep", is_flag=True, help="Go on afterwards, with the page to look at, until Ctrl-C.")
def demo(data: Path | None, seconds: float, output: Path, keep: bool, **options: Any) -> None:
    """Forecast live data, kill the server half-way, and see every session continue.

    Streams this machine's telemetry. With --data, streams the last 400 rows of the first four series of a file that
    have two rows or more.
    """
    _check_output(output)
    _check_source(data is not None)
    from statecast.model import ModelError
    from statecast.service.demo import source, story  # pandas, matplotlib and more, for this command alone
    from statecast.testing import ServerFailed

    signals.end_when_asked()  # so that the server and its folder are removed
    os.environ["no_grpc_proxy"] = "127.0.0.1"  # noqa: SIM112
    try:
        series = source.recorded(data.name, read_data(data, options)) if data else source.telemetry(seconds)
        story.tell(series, output, keep=keep)
    except (ModelError, source.SourceError, story.DemoFailed, ServerFailed) as error:
        raise click.ClickException(str(error)) from error


def _check_output(output: Path) -> None:
    """Refuse an output that cannot be written, before the demo starts."""
    if output.suffix not in PICTURES:
        raise click.UsageError(f"--output: {output.name} should end in {', '.join(PICTURES)}")
    if not output.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {output.parent}")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise click.UsageError(f"--output: {output.resolve()} cannot be written")


def _check_source(has_data: bool) -> None:
    """Refuse options that would have no effect, before the demo starts."""
    context = click.get_current_context()
    given = [
        option
        for option in context.command.params
        if context.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
    ]
    for option in given:
        if has_data and option.name == "seconds":
            raise click.UsageError("--seconds: how long the demo streams telemetry; with --data, --rows bounds it")
        if not has_data and option.name not in ("data", "seconds", "output", "keep"):
            raise click.UsageError(f"{option.opts[0]} describes the file of --data, which is missing")


@main.command()
@click.option("--target", default="localhost:50051", show_default=True, help="gRPC host and port of the server.")
@click.option(
    "--timeout-seconds", type=Seconds(min=0.1), default=3.0, show_default=True, help="Time to wait for the answer."
)
@click.option(
    "--service",
    default="",
    help="Check that this service is ready, such as statecast.v1.ForecastService; by default that the server is up.",
)
@client_options
def health(target: str, timeout_seconds: float, service: str, **options: Any) -> None:
    """Check the health of a server: exit status 0 if it is serving, else 1 and the reason.

    A server that is up is also ready, unless its Redis cannot be used. The check needs no API key, also where other
    calls do.
    """
    from statecast.client import InvalidArgument
    from statecast.service.cli.health import ask

    try:
        answer = ask(target, timeout_seconds, service, **options)
    except InvalidArgument as error:
        raise refused(error) from error
    if answer != "SERVING":
        raise click.ClickException(answer)
    click.echo(answer)


main.add_command(keys)
main.add_command(sessions)
main.add_command(models)
main.add_command(top)
main.add_command(redis)
main.add_command(train)
main.add_command(evaluate)
main.add_command(forecast)
