"""Scripts in a cluster: one pipeline for each primary, all at once, of one script call for each key.

Keys of different slots cannot share a call. A node may answer that it has not run a call: the slot has moved, or is
being moved, or the node is not ready. Such a call is sent again, to the right node. A call whose answer was lost may
have run, so it is never sent again unless its script writes nothing.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from statecast.service.store.cluster import Cluster, slot_of
from statecast.service.store.cluster_link import Link
from statecast.service.store.redis_url import Address
from statecast.service.store.scripts import CURSORS, Argument, NotCarriedOut, Script, pack

WAIT_SECONDS = 0.25
"""Longest wait, in all, for nodes that are not ready; the other sessions of a batch wait as long."""
FIRST_PAUSE_SECONDS = 0.01
QUICK_ROUNDS = 5
"""Rounds without a pause; more redirections in a row mean that the nodes disagree for now."""
_NOT_READY = (BusyLoadingError, ClusterDownError, ReadOnlyError)
_FOR_GOOD = (AuthenticationError, NoPermissionError)


class ClusterScripts:
    """A connection to each primary of a cluster, for scripts. Not thread-safe."""

    def __init__(self, cluster: Cluster) -> None:
        """Connect as the cluster's clients do, to each node at the first call for it."""
        self._cluster = cluster
        self._links: dict[Address, Link] = {}

    def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> list[Any]:
        """Return the reply for each key, or its error as the first element."""
        batch = _Batch(self._cluster, script, keys, arguments)
        try:
            while calls := batch.due():
                self._round(batch, calls)
        except BaseException:
            self.close()  # else the next call might read this call's answers
            raise
        return batch.conclude()

    def scan(self, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor and about `count` keys of one primary; primaries come in the order of their slots.

        Each key is found at least once, unless slots move or a node fails over meanwhile.
        """
        if not self._cluster.is_known:
            self._cluster.refresh()
        slot, at = divmod(cursor, CURSORS)
        firsts = self._cluster.primaries()
        owner = self._cluster.owner(slot)
        if owner is None:  # nobody serves that slot any more, so go on with the next primary
            owner, at = next((each for each, first in firsts.items() if first > slot), None), 0
        if owner is None:
            return 0, []
        node: Any = self._cluster.client(owner)
        after, keys = node.scan(at, pattern, count, _type="string")
        if after:
            return firsts[owner] * CURSORS + int(after), list(keys)
        return min((first for first in firsts.values() if first > firsts[owner]), default=0) * CURSORS, list(keys)

    def close(self) -> None:
        """Close the connections."""
        for link in self._links.values():
            link.close()

    def _round(self, batch: "_Batch", calls: Iterable[int]) -> None:
        """Send calls, then read their answers; the batch notes which must be sent again."""
        sent: list[tuple[Link, list[int]]] = []
        groups = [(self._link(address), group) for address, group in batch.by_node(calls).items()]
        # Open connections first, since opening one may take a while.
        for link, group in sorted(groups, key=lambda each: not each[0].is_open):
            try:
                link.open()
            except RedisError as error:
                batch.not_reached(link.address, group, error)
                continue
            try:
                link.send(batch.script, batch.commands_of(group))
            except RedisError as error:
                batch.lose(link.address, group, error)
            else:
                sent.append((link, group))
        for link, group in sent:
            _read(batch, link, group)

    def _link(self, address: Address) -> Link:
        if address not in self._links:
            self._links[address] = Link(address, self._cluster.client(address), self._cluster.timeout_seconds)
        return self._links[address]


def _read(batch: "_Batch", link: Link, group: Sequence[int]) -> None:
    """Read a node's answers; of those that do not come, nobody knows whether their calls have run."""
    for position, each in enumerate(group):
        try:
            answer = link.read()
        except RedisError as error:
            batch.lose(link.address, group[position:], error)
            return
        batch.take(link.address, each, answer)


class _Batch:
    """The calls of one script, one for each key, and what has become of each."""

    def __init__(self, cluster: Cluster, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        width = len(arguments) // len(keys)
        self.script, self._cluster = script, cluster
        self._commands = [
            pack("EVALSHA", script.digest, 1, key, *arguments[each * width : (each + 1) * width])
            for each, key in enumerate(keys)
        ]
        self._slots = [slot_of(key) for key in keys]
        self._answers: list[Any] = [None] * len(keys)
        self._again: list[int] = list(range(len(keys)))
        self._asked: dict[int, Address] = {}
        self._in_vain: dict[Address, RedisError] = {}
        self._started, self._rounds, self._waited, self._pause = time.monotonic(), 0, 0.0, FIRST_PAUSE_SECONDS
        self._is_early, self._is_outdated, self._wiser = False, not cluster.is_known, set[Address]()

    def due(self) -> list[int]:
        """Return the calls to send now, after a pause if nodes are not ready; none if that is all."""
        if not self._again or (self._rounds and not self._may_go_on()):
            return []
        if self._is_outdated:
            self._refresh()
        calls, self._again, self._is_early = self._again, [], False
        self._in_vain.clear()
        self._rounds += 1
        return calls

    def by_node(self, calls: Iterable[int]) -> dict[Address, list[int]]:
        """Return the calls for each node; those for nodes that cannot be used end with an error at once."""
        groups: dict[Address | None, list[int]] = {}
        for each in calls:
            groups.setdefault(self._asked.get(each) or self._cluster.owner(self._slots[each]), []).append(each)
        found: dict[Address, list[int]] = {}
        for address, group in groups.items():
            if address is not None and not self._cluster.is_left_alone(address):
                found[address] = group
                continue
            self._is_outdated = True
            missing = NotCarriedOut("no node serves the session's slot" if address is None else f"{address} is lost")
            for each in group:
                self._answers[each] = missing
        return found

    def commands_of(self, group: Sequence[int]) -> list[tuple[bytes, bool]]:
        """Return each call as Redis reads it, and whether its slot is still on its way to the node."""
        return [(self._commands[each], self._asked.pop(each, None) is not None) for each in group]

    def take(self, address: Address, call: int, answer: Any) -> None:
        """Note what a node has answered."""
        if isinstance(answer, MovedError):
            owner = Address(answer.host or address.host, answer.port)
            self._cluster.move(self._slots[call], owner)
            self._wiser.add(owner)
            self._is_outdated = True
            self._repeat(call, answer)
        elif isinstance(answer, AskError):
            self._asked[call] = Address(answer.host or address.host, answer.port)
            self._repeat(call, answer)
        elif isinstance(answer, NoScriptError):
            self._repeat(call, answer)
        elif isinstance(answer, TryAgainError | BusyLoadingError | ClusterDownError | ReadOnlyError):
            self._is_early = True
            self._repeat(call, answer)
            if isinstance(answer, _NOT_READY):
                self._is_outdated = True
                self._in_vain[address] = answer
        else:
            self._answers[call] = answer
            if not isinstance(answer, RedisError):
                self._cluster.found(address)

    def not_reached(self, address: Address, group: Iterable[int], error: RedisError) -> None:
        """Note that calls could not be sent."""
        for each in group:
            if isinstance(error, _FOR_GOOD):
                self._answers[each] = error
            else:
                self._repeat(each, error)
        if not isinstance(error, _FOR_GOOD):
            self._is_early = self._is_outdated = True
            self._in_vain[address] = error

    def lose(self, address: Address, group: Iterable[int], error: RedisError) -> None:
        """Note that the answers to calls were lost."""
        self._is_outdated = True
        self._cluster.leave_alone(address, time.monotonic() - self._started, error)
        for each in group:
            if self.script.repeats:
                self._repeat(each, error)
            else:
                self._answers[each] = error

    def conclude(self) -> list[Any]:
        """Return the answers, as a script that is called for all keys gives them, with errors in their places."""
        for address, error in self._in_vain.items():
            self._cluster.leave_alone(address, time.monotonic() - self._started, error)
        if self._is_outdated:
            self._refresh()
        rest = [None] * (self.script.replies - 1)
        flat: list[Any] = []
        for answer in self._answers:
            flat += [answer, *rest] if isinstance(answer, RedisError) else answer
        return flat

    def _repeat(self, call: int, error: RedisError) -> None:
        """Send the call again if there is time; until then, its answer is that nothing has come of it."""
        self._answers[call] = NotCarriedOut(str(error))
        self._again.append(call)

    def _may_go_on(self) -> bool:
        """Wait if nodes are not ready; return whether there is time for another round."""
        if self._is_early or self._rounds >= QUICK_ROUNDS:
            pause = min(self._pause, WAIT_SECONDS - self._waited)
            if pause <= 0:
                return False
            time.sleep(pause)
            self._waited += pause
            self._pause *= 2
        return time.monotonic() - self._started < self._cluster.timeout_seconds

    def _refresh(self) -> None:
        with suppress(RedisError):  # the calls fail then, and say why
            self._cluster.refresh(self._wiser)
        self._wiser.clear()
        self._is_outdated = False
