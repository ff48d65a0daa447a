"""Aliases, policies and retired versions of models, as operators set them for all servers of one Redis."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from statecast.service.errors import InvalidRequest, NotFound, PreconditionFailed, quoted
from statecast.service.models.policies import ALIAS, AT, FOLLOW, PIN, Policies
from statecast.service.models.registry import Registry
from statecast.service.shared import census
from statecast.service.shared.documents import Documents
from statecast.service.store.redis_store import Store
from statecast.v1 import admin_service_pb2 as pb
from statecast.v1.reasons import Reason

SPREAD_SECONDS = 2.0
"""Time in which every server reads a change."""

P = ParamSpec("P")
T = TypeVar("T")


class ModelManagement:
    """Carries out one change at a time, in its own thread and over its own connection."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store, self._registry, self._documents = store, registry, Documents(store)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model-management")

    async def set_alias(self, request: pb.SetModelAliasRequest) -> str:
        """Point an alias to a version, or remove it; return the version that it pointed to, empty if there was none.

        Raises:
            ServiceError: if a name is invalid, this server does not have the version, or Redis cannot be used.
        """
        if not ALIAS.fullmatch(request.alias):
            raise InvalidRequest("alias", f"{quoted(request.alias)}; must be 1 to 64 letters, digits and . _ + -")
        return await self._run(self._set_alias, request.name, request.alias, request.version)

    def _set_alias(self, name: str, alias: str, version: str) -> str:
        if version:
            self._check_usable(name, version)
        before = ""

        def change(policies: Policies) -> Policies:
            nonlocal before
            before = policies.target(name, alias) or ""
            if not version and name in policies.chosen and policies.policy(name) == AT + alias:
                raise _in_use(f"alias {quoted(alias)} is the policy of model {quoted(name)}; set another policy first")
            return policies if before == version else policies.with_alias(name, alias, version)

        self._change(change)
        return before

    async def set_policy(self, request: pb.SetModelPolicyRequest) -> str:
        """Set the policy of a model; return the one before.

        Raises:
            ServiceError: if it is invalid, there is no such model or alias, or Redis cannot be used.
        """
        if request.policy not in (PIN, FOLLOW) and not request.policy.startswith(AT):
            raise InvalidRequest(
                "policy", f"{quoted(request.policy)}; must be '{PIN}', '{FOLLOW}', or '@' and an alias such as '@live'"
            )
        return await self._run(self._set_policy, request.name, request.policy)

    def _set_policy(self, name: str, policy: str) -> str:
        self._check_usable(name, "")
        before = ""

        def change(policies: Policies) -> Policies:
            nonlocal before
            before = policies.policy(name)
            if policy.startswith(AT) and policies.target(name, policy.removeprefix(AT)) is None:
                raise NotFound(
                    f"model {quoted(name)} has no alias {quoted(policy.removeprefix(AT))}; set it first",
                    Reason.MODEL_NOT_FOUND,
                )
            return policies if before == policy else policies.with_policy(name, policy)

        self._change(change)
        return before

    async def retire(self, request: pb.RetireModelRequest) -> bool:
        """Retire a version, or undo that; return False if nothing changed.

        Raises:
            ServiceError: if sessions or an alias stand on it, there is no such version, or Redis cannot be used.
        """
        name, version = request.name, request.version
        if request.undo:
            return await self._run(self._undo, name, version)
        if not await self._run(self._retire, name, version):
            return False
        await asyncio.sleep(SPREAD_SECONDS)  # until then, other servers may begin sessions on it
        await self._run(self._check_retired, name, version)
        return True

    def _undo(self, name: str, version: str) -> bool:
        was_retired = self._documents.policies().is_retired(name, version)
        if was_retired:
            self._change(lambda policies: policies.with_retired(name, version, is_retired=False))
        return was_retired

    def _retire(self, name: str, version: str) -> bool:
        if self._documents.policies().is_retired(name, version):
            return False
        self._check_known(name, version)
        self._check_unused(name, version)
        self._change(partial(_retired, name, version))
        return True

    def _check_retired(self, name: str, version: str) -> None:
        """Check that no session has begun on a version that was just retired; if one has, undo that."""
        try:
            self._check_unused(name, version)
        except PreconditionFailed:
            self._undo(name, version)
            raise

    def _check_unused(self, name: str, version: str) -> None:
        """Check that no session stands on a version.

        Raises:
            PreconditionFailed: if some do; the message says how many.
        """
        found = census.count(self._store) or Counter()
        sessions = sum(
            count for (model, its_version, _), count in found.items() if (model, its_version) == (name, version)
        )
        if sessions:
            stand = "session stands" if sessions == 1 else "sessions stand"
            raise _in_use(
                f"{sessions:,} {stand} on version {quoted(version)} of model {quoted(name)}; move them to another "
                "(statecast sessions upgrade), or close them, then retire it"
            )

    def _check_known(self, name: str, version: str) -> None:
        if self._registry.find(name, version) is None:
            raise NotFound(
                f"this server does not have version {quoted(version)} of model {quoted(name)}; statecast models list "
                "shows those that it has",
                Reason.MODEL_NOT_FOUND,
            )
        others = [each for each in self._registry.versions(name) if each != version]
        if name == self._registry.default and not others:
            raise _in_use(f"version {quoted(version)} is the only one of the default model {quoted(name)}")

    def _check_usable(self, name: str, version: str) -> None:
        """Check that sessions may begin on that version, or on any if it is empty, on this server at least."""
        if version:
            self._registry.get(name, version)
        elif not self._registry.versions(name):
            self._registry.get(name)

    def _change(self, change: Callable[[Policies], Policies]) -> None:
        self._registry.adopt(self._documents.change_policies(change))

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


def _retired(name: str, version: str, policies: Policies) -> Policies:
    if aliases := policies.aliases_of(name, version):
        raise _in_use(
            f"alias {', '.join(map(quoted, aliases))} points to version {quoted(version)} of model {quoted(name)}; "
            "point it to another version first"
        )
    return policies.with_retired(name, version, is_retired=True)


def _in_use(message: str) -> PreconditionFailed:
    return PreconditionFailed(message, Reason.MODEL_IN_USE)
