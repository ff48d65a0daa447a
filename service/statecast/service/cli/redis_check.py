"""The command `statecast redis check`: would a server start on this Redis, and if not, why?"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from statecast.service.cli.output import output_option, printable, write_list, write_pairs

if TYPE_CHECKING:
    from redis import Redis, RedisError

    from statecast.service.store.nodes import Client
    from statecast.service.store.redis_url import Address

F = TypeVar("F", bound=Callable[..., Any])
COLUMNS = {"check": "check", "result": "result", "found": "found"}
OLDEST = (6, 2)
"""Oldest version of Redis that is tested; Valkey began later."""
FULL = 0.9
"""Share of the memory limit from which on Redis counts as almost full."""
OK, NOT_TRIED, WARNING, MISSING = RESULTS = ("ok", "not tried", "warning", "missing")
_FIX = "; allow that with: "


class Finding(NamedTuple):
    """The result of one check: OK, WARNING, MISSING or NOT_TRIED, what was found, and a command that fixes it."""

    check: str
    result: str
    found: str
    fix: str = ""


def _file_option(name: str, text: str) -> Callable[[F], F]:
    variable = "STATECAST" + name.replace("-", "_").upper()[1:]
    return click.option(name, type=click.Path(path_type=Path), envvar=variable, show_envvar=True, help=text)


@click.group()
def redis() -> None:
    """Check the Redis of a server."""


@redis.command()
@click.argument("url", envvar="STATECAST_REDIS_URL")
@click.option(
    "--namespace", default="statecast", envvar="STATECAST_NAMESPACE", show_envvar=True, show_default=True,
    help="Prefix of every Redis key, as the server's --namespace.",
)  # fmt: skip
@click.option(
    "--password-file", "--redis-password-file", type=click.Path(path_type=Path),
    envvar="STATECAST_REDIS_PASSWORD_FILE", show_envvar=True, help="File with the password, if URL has none.",
)  # fmt: skip
@_file_option("--redis-ca", "PEM file with the authorities that vouch for Redis (TLS).")
@_file_option("--redis-cert", "PEM file with the certificate to show to Redis.")
@_file_option("--redis-key", "PEM file with the private key of that certificate.")
@click.option(
    "--allow-volatile", "--allow-volatile-redis", is_flag=True, envvar="STATECAST_ALLOW_VOLATILE_REDIS",
    show_envvar=True, help="Accept a Redis that evicts keys or has no append-only file.",
)  # fmt: skip
@click.option(
    "--timeout-seconds", type=click.FloatRange(min=0.1, max=1e6), default=2.0, show_default=True,
    help="Timeout for connecting to Redis and for its answers.",
)  # fmt: skip
@output_option("table", "json", "csv")
def check(
    url: str,
    namespace: str,
    password_file: Path | None,
    redis_ca: Path | None,
    redis_cert: Path | None,
    redis_key: Path | None,
    allow_volatile: bool,
    timeout_seconds: float,
    output: str,
) -> None:
    """Check the Redis at URL as a server does when it starts: exit status 0 if a server would start, else 1.

    URL is that of the server's --redis-url; by default that of the variable STATECAST_REDIS_URL. The check writes a key
    of its own, which expires by itself.
    """
    from statecast.service.errors import StartupError
    from statecast.service.store.connection import TlsFiles, open_redis

    try:
        files = TlsFiles(redis_ca, redis_cert, redis_key)
        with closing(open_redis(url, timeout_seconds, _password(password_file), files)) as client:
            found = _rows(client, url, namespace, allow_volatile=allow_volatile)
    except StartupError as error:
        raise click.ClickException(printable(str(error))) from error
    _write(output, found)
    if problems := [finding.check for finding in found if finding.result == MISSING]:
        raise click.ClickException(f"a server would not start on this Redis; fix: {', '.join(problems)}")
    if output == "table":
        click.echo("a server would start on this Redis", err=True)


def _password(path: Path | None) -> str | None:
    try:
        return None if path is None else path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"--password-file: {path} cannot be read: {error}") from error


def _write(output: str, found: list[Finding]) -> None:
    if output != "table":
        write_list(output, (finding._asdict() for finding in found), COLUMNS)
        return
    write_pairs([(each.check, each.result.upper() if each.result == MISSING else each.result, each.found)
                 for each in found])  # fmt: skip
    for fix in filter(None, (finding.fix for finding in found)):
        click.echo(f"\nTo allow what is missing, run in redis-cli:\n\n  {fix}\n")


def _rows(client: "Client", url: str, namespace: str, *, allow_volatile: bool) -> list[Finding]:
    """Return the findings; if Redis cannot be used any more, those until then."""
    from redis.exceptions import NoPermissionError, RedisError, ResponseError

    from statecast.service.store.cluster import Cluster
    from statecast.service.store.connection import why_unusable
    from statecast.service.store.nodes import probe
    from statecast.service.store.redis_url import redact

    found: list[Finding] = []
    place = redact(url)
    missing: Mapping[Address, RedisError] = {}
    try:
        missing = probe(client)
    except NoPermissionError:
        pass  # which the check of the rights reports
    except ResponseError as error:  # it is no cluster, which the check of its kind reports
        if not isinstance(client, Cluster):
            return [Finding("reachable", MISSING, _about(why_unusable(url, error), place))]
    except RedisError as error:
        return [Finding("reachable", MISSING, _about(why_unusable(url, error), place))]
    found.append(_reachable(place, missing))
    try:
        found += _looks(client, namespace)
        found += _persistence(client, allow_volatile=allow_volatile)
        found.append(_of_all(client, "memory limit", _memory))
    except RedisError as error:
        found.append(Finding("reachable", MISSING, _about(why_unusable(url, error), place)))
    return found


def _looks(client: "Client", namespace: str) -> Iterator[Finding]:
    """Yield the version, then what the start of a server tries."""
    from statecast.service.store.cluster import Cluster
    from statecast.service.store.requirements import usability

    is_cluster = isinstance(client, Cluster)
    yield _of_all(client, "version", _version)
    problems = usability(client, namespace)
    fine = {
        "kind": "the primaries of a cluster" if is_cluster else "a primary, and no node of a cluster",
        "rights": f"user {_user(client)!r} may run all that is needed on {namespace}:*",
        "scripts": "a record could be written, read and deleted",
    }
    for name, good in fine.items():
        if name not in problems:
            yield Finding(name, NOT_TRIED, "fix the others first")
            continue
        problem, _, rule = problems[name].partition(_FIX)
        fix = rule.replace("ACL SETUSER ...", f"ACL SETUSER {_user(client)}")
        yield Finding(name, MISSING if problem else OK, printable(problem or good), printable(fix))


def _reachable(place: str, missing: "Mapping[Address, RedisError]") -> Finding:
    if not missing:
        return Finding("reachable", OK, f"{place} answers")
    told = "; ".join(f"{address}: {error}" for address, error in missing.items())
    return Finding("reachable", WARNING, printable(f"{place} answers, but not all of its primaries do: {told}"))


def _of_all(client: "Client", check: str, look: "Callable[[Redis], Finding]") -> Finding:
    """Return what was found on Redis, or the worst of what was found on the primaries of a cluster."""
    from statecast.service.store.nodes import nodes_of

    found = [(address, look(node)) for address, node in nodes_of(client).items()]
    if not found:
        return Finding(check, NOT_TRIED, "fix the others first")
    address, worst = max(found, key=lambda each: RESULTS.index(each[1].result))
    return worst if worst.result == OK or not address else worst._replace(found=f"{address}: {worst.found}")


def _persistence(client: "Client", *, allow_volatile: bool) -> Iterator[Finding]:
    from statecast.service.store.requirements import append_only_problem, eviction_problem

    bad = WARNING if allow_volatile else MISSING
    fine = {
        "eviction": (eviction_problem, "maxmemory-policy noeviction"),
        "append-only file": (append_only_problem, "appendonly yes"),
    }
    for name, (look, good) in fine.items():
        yield _of_all(client, name, partial(_setting, name, look, good, bad))


def _setting(name: str, look: "Callable[[Redis], str]", good: str, bad: str, client: "Redis") -> Finding:
    from redis.exceptions import NoPermissionError

    try:
        problem = look(client)
    except NoPermissionError:
        return Finding(name, NOT_TRIED, "this user may not run INFO")
    return Finding(name, bad if problem else OK, problem or good)


def _version(client: "Redis") -> Finding:
    info = _info(client, "server")
    if info is None:
        return Finding("version", NOT_TRIED, "this user may not run INFO")
    if valkey := info.get("valkey_version"):
        return Finding("version", OK, f"Valkey {printable(str(valkey))}")
    said = printable(str(info.get("redis_version", "unknown")))
    numbers = tuple(map(int, re.findall(r"\d+", said)[:2]))
    if numbers < OLDEST:
        return Finding("version", WARNING, f"Redis {said}; use 6.2 or newer, or Valkey")
    return Finding("version", OK, f"Redis {said}")


def _memory(client: "Redis") -> Finding:
    info = _info(client, "memory")
    if info is None:
        return Finding("memory limit", NOT_TRIED, "this user may not run INFO")
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit:
        return Finding("memory limit", OK, f"none; {used / 2**20:,.0f} MiB are in use")
    said = f"{used / 2**20:,.0f} of {limit / 2**20:,.0f} MiB are in use"
    if used < FULL * limit:
        return Finding("memory limit", OK, said)
    return Finding("memory limit", WARNING, f"{said}; raise maxmemory, or let sessions expire sooner")


def _info(client: "Redis", section: str) -> dict[str, Any] | None:
    """Return a section of INFO; None if the user may not look at it."""
    from redis.exceptions import NoPermissionError

    try:
        return client.info(section)
    except NoPermissionError:
        return None


def _user(client: "Client") -> str:
    from statecast.service.store.nodes import user_of

    return user_of(client)


def _about(message: str, place: str) -> str:
    return printable(message.removeprefix(f"Redis at {place} "))
