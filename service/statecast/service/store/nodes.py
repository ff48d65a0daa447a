"""One Redis or the nodes of a cluster, to look at one by one."""

from collections.abc import Callable, Mapping
from contextlib import suppress

import redis
from redis.connection import SSLConnection
from redis.exceptions import AuthenticationError, RedisError

from statecast.service.store.cluster import Cluster
from statecast.service.store.redis_url import Address
from statecast.service.store.sentinels import PrimaryPool

Client = redis.Redis | Cluster


def probe(client: Client) -> Mapping[Address, RedisError]:
    """Ask whether Redis is there, and where its primaries are; return the errors of the nodes that do not answer.

    Raises:
        redis.RedisError: if none answers.
    """
    if isinstance(client, Cluster):
        return client.probe()
    if isinstance(client.connection_pool, PrimaryPool):
        with suppress(RedisError):  # a primary without Sentinels can still be used
            client.connection_pool.look()
    client.ping()
    return {}


def nodes_of(client: Client) -> Mapping[str, redis.Redis]:
    """Return Redis under an empty name, or the primaries of a cluster that answer under their addresses."""
    if not isinstance(client, Cluster):
        return {"": client}
    return {str(each): client.client(each) for each in client.primaries() if not client.is_left_alone(each)}


def user_of(client: Client) -> str:
    """Return the name of the user as whom the client connects."""
    any_node = client.any_node() if isinstance(client, Cluster) else client
    return any_node.get_connection_kwargs().get("username") or "default"


def instead(client: redis.Redis, kind: str, port: int, name: str = "") -> str:
    """Return the URL to use for a node of a cluster or a Sentinel, with a place for the password."""
    options = client.get_connection_kwargs()
    scheme = "rediss" if issubclass(client.connection_pool.connection_class, SSLConnection) else "redis"
    user = "user:password@" if options.get("password") else ""
    address = Address(str(options.get("host", "127.0.0.1")), port)
    return f"{scheme}{kind and '+'}{kind}://{user}{address}{name and '/'}{name}"


def of_nodes(cluster: Cluster, look: Callable[[redis.Redis, Address], str]) -> str:
    """Return the first problem that `look` finds with a primary; those that do not answer are passed over.

    Raises:
        redis.RedisError: if no primary answers.
    """
    failure: RedisError | None = None
    answered = False
    for address in cluster.primaries():
        if cluster.is_left_alone(address):
            continue
        try:
            problem = look(cluster.client(address), address)
        except AuthenticationError:
            raise
        except (redis.ConnectionError, redis.TimeoutError) as error:
            cluster.leave_alone(address, cluster.timeout_seconds, error)
            failure = error
            continue
        answered = True
        if problem:
            return f"has a node {address} that {problem}"
    if not answered:
        raise failure or redis.ConnectionError("no primary of the cluster answers")
    return ""
