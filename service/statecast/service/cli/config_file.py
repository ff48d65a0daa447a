"""The option --config: a TOML file with a command's options."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def config_option(*, what: str, envvar: str | None = None) -> Callable[[F], F]:
    """Add the option --config to a command; environment and command line override the file.

    Args:
        what: Plural noun for the keys, for help and messages.
        envvar: Environment variable that names the file, if it is not the command's own.
    """
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar=envvar,
        allow_from_autoenv=envvar is None,
        is_eager=True,
        expose_value=False,
        callback=lambda context, _, path: _read(context, path, what),
        help=f"TOML file of {what}; environment and options override it.",
    )


def _read(context: click.Context, path: Path | None, what: str) -> Path | None:
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path} cannot be read: {error}") from error
    options = [each for each in context.command.params if isinstance(each, click.Option) and each.expose_value]
    known = {option.name: option for option in options}
    if unknown := sorted(set(values) - set(known)):
        raise click.BadParameter(f"{path}: unknown {what}: {', '.join(unknown)}; --help lists all, write _ for -")
    for name, value in values.items():
        if wanted := _wrong_type(known[name], value):
            raise click.BadParameter(f"{path}: {name} is {value!r}; expected {wanted}")
    context.default_map = values
    return path


def _wrong_type(option: click.Option, value: Any) -> str:
    """Return the type expected of a key in the TOML file; empty if the value has it."""
    if not option.multiple:
        return _wrong_item(option.type, value)
    if not isinstance(value, list):
        return "a list"
    return next((f"a list, each {wanted}" for each in value if (wanted := _wrong_item(option.type, each))), "")


def _wrong_item(kind: Any, value: Any) -> str:
    if isinstance(kind, type(click.BOOL)):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(kind, type(click.INT)):  # IntRange is one, too
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(kind, type(click.FLOAT)):
        return "" if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"
    takes = getattr(kind, "takes", str)
    return "" if isinstance(value, takes) and not isinstance(value, bool) else "text"
