"""The commands `statecast models alias`, `policy` and `retire`: which versions sessions begin on and move to."""

from contextlib import closing
from typing import Any

import click

from statecast.service.cli.calling import calling, server_options

LONGEST_RETIREMENT_SECONDS = 3600.0


@click.command()
@click.argument("reference", metavar="NAME@ALIAS")
@click.argument("version", required=False, default="")
@click.option("--remove", is_flag=True, help="Remove the alias; its sessions stay where they are.")
@server_options
def alias(reference: str, version: str, remove: bool, **connection: Any) -> None:
    """Point the alias NAME@ALIAS, such as demand@production, to a VERSION; sessions that follow it move there."""
    name, _, its_alias = reference.partition("@")
    if not its_alias:
        raise click.UsageError(f"{reference!r}: write NAME@ALIAS, such as demand@production")
    if remove == bool(version):
        raise click.UsageError("give either the VERSION that the alias points to, or --remove")
    from statecast.v1 import admin_service_pb2 as pb

    request = pb.SetModelAliasRequest(name=name, alias=its_alias, version=version)
    before = _ask(connection, "SetModelAlias", request).previous_version
    was = f"; before, it pointed to {before}" if before else ""
    click.echo(f"{reference} points to version {version}{was}" if version else f"{reference} is removed{was}")


@click.command()
@click.argument("name")
@click.argument("policy", metavar="pin|follow|@ALIAS")
@server_options
def policy(name: str, policy: str, **connection: Any) -> None:
    """Set what sessions of the model NAME do when versions come: stay, move to the newest, or follow an alias.

    It counts for sessions whose caller named neither a version nor an alias.
    """
    from statecast.v1 import admin_service_pb2 as pb

    before = _ask(connection, "SetModelPolicy", pb.SetModelPolicyRequest(name=name, policy=policy)).previous_policy
    click.echo(f"the policy of {name} is {policy}; before, it was {before}")


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--undo", is_flag=True, help="Take a retired version back into use.")
@server_options
def retire(name: str, version: str, undo: bool, **connection: Any) -> None:
    """Retire a VERSION: no session begins on it, so its folder can go. Refused while sessions stand on it."""
    from statecast.v1 import admin_service_pb2 as pb

    # It reads every key in Redis, and then waits until all servers know.
    connection = {**connection, "timeout_seconds": LONGEST_RETIREMENT_SECONDS}
    answer = _ask(connection, "RetireModel", pb.RetireModelRequest(name=name, version=version, undo=undo))
    state = "in use" if undo else "retired"
    click.echo(f"{name} version {version} {'was' if answer.unchanged else 'is'} {state}{' already' * answer.unchanged}")


def _ask(connection: dict[str, Any], method: str, request: Any) -> Any:
    with calling(connection):
        from statecast.service.cli.admin_calls import AdminCalls

        with closing(AdminCalls(connection)) as calls:
            return calls.ask(method, request)
