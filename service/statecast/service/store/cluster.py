"""A Redis Cluster: which primary serves which slot, and which primaries cannot be used at the moment."""

import logging
import threading
import time
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis
from redis.exceptions import RedisError

from statecast.service.store.redis_url import Address

log = logging.getLogger(__name__)

SLOTS = 16_384
REFRESH_SECONDS = 0.1
"""Least time between two looks at who serves what."""
PAUSE_FACTOR = 4.0
"""A primary that kept a batch waiting in vain is left alone for this many times as long."""


def slot_of(key: str) -> int:
    """Return the slot of a key: that of its first non-empty part in braces, if it has one."""
    begin = key.find("{")
    if begin >= 0:
        end = key.find("}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS


class Cluster:
    """What all stores of a process know of a cluster; thread-safe."""

    def __init__(
        self, seeds: Sequence[Address], make_client: Callable[[Address], redis.Redis], timeout_seconds: float
    ) -> None:
        """Find the cluster by any of the seeds, once `refresh` is called; `make_client` connects to one node."""
        self.timeout_seconds = timeout_seconds
        self._seeds, self._make_client = tuple(seeds), make_client
        self._clients: dict[Address, redis.Redis] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._nodes: tuple[Address, ...] = ()
        self._left_alone: dict[Address, float] = {}
        self._lock, self._refreshing = threading.Lock(), threading.Lock()
        self._refreshed_at = float("-inf")

    @property
    def is_known(self) -> bool:
        """True once a node has said who serves what."""
        return bool(self._nodes)

    def owner(self, slot: int) -> Address | None:
        """Return the primary that serves a slot; None if none does."""
        return self._owners[slot]

    def primaries(self) -> dict[Address, int]:
        """Return the primaries in the order of the first slot that each serves, which is its value."""
        firsts: dict[Address, int] = {}
        for slot, owner in enumerate(self._owners):
            if owner is not None and owner not in firsts:
                firsts[owner] = slot
        return firsts

    def client(self, address: Address) -> redis.Redis:
        """Return a client of one node, which all threads may use."""
        with self._lock:
            if address not in self._clients:
                self._clients[address] = self._make_client(address)
            return self._clients[address]

    def any_node(self) -> redis.Redis:
        """Return a client of a node that the operator has named."""
        return self.client(self._seeds[0])

    def move(self, slot: int, address: Address) -> None:
        """Note that another primary serves the slot, as a node has said."""
        self._owners[slot] = address

    def refresh(self, first: Iterable[Address] = ()) -> None:
        """Ask who serves what: the nodes in `first`, then any; unless somebody has just asked.

        Raises:
            redis.RedisError: if no node answers.
        """
        if not self._refreshing.acquire(blocking=False):
            return
        try:
            if time.monotonic() - self._refreshed_at >= REFRESH_SECONDS:
                self._ask(first)
                self._refreshed_at = time.monotonic()
        finally:
            self._refreshing.release()

    def is_left_alone(self, address: Address) -> bool:
        """Return whether the primary has just kept a batch waiting in vain, so that others need not wait, too."""
        until = self._left_alone.get(address)
        return until is not None and time.monotonic() < until

    def leave_alone(self, address: Address, waited_seconds: float, error: object) -> None:
        """Note that a batch has waited for the primary in vain."""
        if address not in self._left_alone:
            log.error("the primary %s of the cluster cannot be used: %s", address, error)
        self._left_alone[address] = time.monotonic() + PAUSE_FACTOR * waited_seconds

    def found(self, address: Address) -> None:
        """Note that a primary answers."""
        if self._left_alone and self._left_alone.pop(address, None) is not None:
            log.info("the node %s of the cluster answers again", address)

    def probe(self) -> dict[Address, RedisError]:
        """Ask who serves what, and each primary whether it is there; return the errors of those that do not answer.

        Raises:
            redis.RedisError: if none answers.
        """
        self.refresh()
        errors, primaries = {}, self.primaries()
        for address in primaries:
            try:
                self.client(address).ping()
                self.found(address)
            except RedisError as error:
                errors[address] = error
        if errors and len(errors) == len(primaries):
            raise next(iter(errors.values()))
        for address in self._left_alone.keys() - primaries.keys():
            self._left_alone.pop(address, None)
        return errors

    def close(self) -> None:
        """Close the clients' connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _ask(self, first: Iterable[Address]) -> None:
        known = dict.fromkeys((*first, *self.primaries(), *self._nodes, *self._seeds))
        failure: RedisError | None = None
        for address in sorted(known, key=self.is_left_alone):
            try:
                node: Any = self.client(address)
                self._take(address, node.execute_command("CLUSTER", "SLOTS"))
            except RedisError as error:
                failure = failure or error
            else:
                return
        raise failure or redis.ConnectionError("there is no node to ask")

    def _take(self, asked: Address, ranges: Any) -> None:
        """Take the answer of a node to CLUSTER SLOTS."""
        owners: list[Address | None] = [None] * SLOTS
        nodes: dict[Address, None] = {}
        for first, last, *served in ranges:
            places = [_place(node[0], int(node[1]), asked) for node in served]
            nodes.update(dict.fromkeys(places))
            owners[int(first) : int(last) + 1] = [places[0]] * (int(last) + 1 - int(first))
        self._owners, self._nodes = owners, tuple(nodes)


def _place(host: bytes | str | None, port: int, asked: Address) -> Address:
    """Return where a node is; without a host, where the node that was asked is."""
    name = host.decode() if isinstance(host, bytes) else host
    return Address(name if name and name != "?" else asked.host, port)
