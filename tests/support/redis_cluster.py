"""Private Redis clusters of six nodes, and primaries watched by Sentinels, on this machine."""

import signal
import socket
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis

from support import await_true

PRIMARIES, NODES, SENTINELS = 3, 6, 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 1000
NAME = "sessions"
"""Name by which the Sentinels know the primary."""


def free_ports(count: int) -> list[int]:
    """Return free ports; those of cluster nodes need the ports 10,000 above them, too."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe, socket.socket() as above:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                above.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            if port not in found:
                found.append(port)
    return found


class Node:
    """A Redis or a Sentinel on a port of 127.0.0.1, with a folder of its own."""

    def __init__(self, command: Sequence[str], folder: Path, port: int, *options: str, **access: Any) -> None:
        """Prepare the node; `access` is what clients need to connect to it."""
        self.port, self.folder = port, folder
        folder.mkdir(exist_ok=True)
        ports = ("--tls-port", str(port), "--port", "0") if access.get("ssl") else ("--port", str(port))
        self._command = [*command, *ports, "--bind", "127.0.0.1", "--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = redis.Redis(port=port, socket_timeout=5.0, **access)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class RedisCluster:
    """A cluster of six nodes: three primaries with a replica each."""

    def __init__(self, binary: str, folder: Path, *options: str, nodes: int = NODES, **access: Any) -> None:
        """Start the cluster; `access` is what clients need to connect to it."""
        self._ids: dict[int, str] = {}
        self._scheme = "rediss+cluster" if access.get("ssl") else "redis+cluster"
        fixed = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--appendonly", "yes",
            "--save", "", "--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0",
        )  # fmt: skip
        self.nodes = [
            Node([binary], folder / str(number), port, *fixed, *options, **access)
            for number, port in enumerate(free_ports(nodes))
        ]
        try:
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                await_true(node.answers)
            self._join()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return f"{self._scheme}://" + ",".join(node.address for node in self.nodes[:PRIMARIES])

    @property
    def primaries(self) -> list[Node]:
        """The nodes that serve slots, as most nodes that answer see it."""
        return [self.at(port) for port in dict.fromkeys(port for _, port in self._slots())]

    def at(self, port: int) -> Node:
        return next(node for node in self.nodes if node.port == port)

    def owner(self, slot: int) -> Node:
        return self.at(next(port for slots, port in self._slots() if slot in slots))

    def replica_of(self, primary: Node) -> Node:
        """Return a replica of a primary that follows it."""
        for node in self.nodes:
            if node is not primary and node.answers():
                state = node.client.info("replication")
                if state["role"] == "slave" and state["master_port"] == primary.port:
                    return node
        raise AssertionError(f"{primary.address} has no replica")

    def is_well(self) -> bool:
        """Return whether all nodes that answer see every slot served, and all replicas are linked."""
        up = [node for node in self.nodes if node.answers()]
        return all(_is_well(node.client) for node in up) and len({str(self._slots(node)) for node in up}) == 1

    def is_served_by(self, nodes: Sequence[Node]) -> bool:
        """Return whether each of these nodes sees all slots served by them alone."""
        ports = {node.port for node in nodes}
        return all(
            _is_well(node.client) and {port for _, port in self._slots(node)} <= ports for node in nodes if _leads(node)
        )

    def slots_of(self, node: Node) -> list[int]:
        return [slot for slots, port in self._slots() if port == node.port for slot in slots]

    def begin_to_move(self, slot: int, source: Node, target: Node) -> None:
        """Let a slot be on its way to a node."""
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def end_to_move(self, slot: int, source: Node, target: Node) -> None:
        """Move the keys of a slot that is on its way, then the slot."""
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def move(self, slots: Sequence[int], source: Node, target: Node) -> None:
        """Move slots from one primary to another, one after the other."""
        for slot in slots:
            self.begin_to_move(slot, source, target)
            self.end_to_move(slot, source, target)

    def fail_over(self, primary: Node) -> Node:
        """Let a replica take over from a primary, orderly; return it."""
        replica = self.replica_of(primary)
        replica.client.execute_command("CLUSTER", "FAILOVER")
        await_true(lambda: _leads(replica))
        return replica

    def id_of(self, node: Node) -> str:
        """Return a node's id, which it keeps."""
        if node.port not in self._ids:
            self._ids[node.port] = node.client.execute_command("CLUSTER", "MYID").decode()
        return self._ids[node.port]

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def _join(self) -> None:
        first, *others = self.nodes
        share = SLOTS // PRIMARIES + 1
        for number, node in enumerate(self.nodes[:PRIMARIES]):
            last = min((number + 1) * share, SLOTS) - 1
            node.client.execute_command("CLUSTER", "ADDSLOTS", *range(number * share, last + 1))
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in others:
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        ids = [self.id_of(node) for node in self.nodes]
        for number, node in enumerate(self.nodes[PRIMARIES:]):
            await_true(partial(_knows, node.client, ids[number]))
            node.client.execute_command("CLUSTER", "REPLICATE", ids[number])
        await_true(self.is_well)

    def _slots(self, node: Node | None = None) -> list[tuple[range, int]]:
        asked = node or next(node for node in self.nodes if node.answers())
        ranges = asked.client.execute_command("CLUSTER", "SLOTS")
        found = sorted((first, last, served[0][1]) for first, last, *served in ranges)
        return [(range(first, last + 1), port) for first, last, port in found]


class WatchedRedis:
    """A primary and a replica, watched by three Sentinels."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        ports = free_ports(2 + SENTINELS)
        kept = ("--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0", *options)
        self.first = Node([binary], folder / "0", ports[0], *kept)
        self.second = Node([binary], folder / "1", ports[1], *kept, "--replicaof", "127.0.0.1", str(ports[0]))
        self.sentinels: list[Node] = []
        try:
            self.first.start()
            self.second.start()
            await_true(self.first.answers)
            await_true(self.second.answers)
            await_true(lambda: self.second.client.info("replication")["master_link_status"] == "up")
            self.sentinels += [_sentinel(binary, folder, port, ports[0]) for port in ports[2:]]
            for each in self.sentinels:
                await_true(each.answers)
            await_true(self.is_well)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(each.address for each in self.sentinels) + f"/{NAME}"

    @property
    def primary(self) -> Node:
        """The primary, as the Sentinels see it."""
        _, port = self.sentinels[0].client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return self.first if int(port) == self.first.port else self.second

    @property
    def replica(self) -> Node:
        return self.second if self.primary is self.first else self.first

    def is_well(self) -> bool:
        """Return whether each Sentinel knows the others and the replica, and the replica is linked."""
        for each in self.sentinels:
            told = each.client.execute_command("SENTINEL", "MASTER", NAME)
            fields = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
            if (fields[b"num-other-sentinels"], fields[b"num-slaves"], fields[b"flags"]) != (b"2", b"1", b"master"):
                return False
        return bool(self.replica.client.info("replication").get("master_link_status") == "up")

    def stop(self) -> None:
        for node in (self.first, self.second, *self.sentinels):
            node.kill()


def _sentinel(binary: str, folder: Path, port: int, watched: int) -> Node:
    configuration = folder / f"sentinel-{port}.conf"
    configuration.write_text(
        f"sentinel monitor {NAME} 127.0.0.1 {watched} 2\n"
        f"sentinel down-after-milliseconds {NAME} 500\n"
        f"sentinel failover-timeout {NAME} 1000\n"
    )
    node = Node([binary, str(configuration), "--sentinel"], folder / str(port), port)
    node.start()
    return node


def _is_well(client: Any) -> bool:
    state = client.execute_command("CLUSTER", "INFO").decode()
    replication = client.info("replication")
    is_linked = replication["role"] == "master" or replication["master_link_status"] == "up"
    return "cluster_state:ok" in state and "cluster_slots_ok:16384" in state and is_linked


def _leads(node: Node) -> bool:
    return bool(node.client.info("replication")["role"] == "master")


def _knows(client: Any, node: str) -> bool:
    return node.encode() in client.execute_command("CLUSTER", "NODES")
