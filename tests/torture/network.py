"""Network faults between callers and servers."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from support.proxy import Chance, Fault, Proxy, drop, lose
from support.tcp_proxy import TcpProxy

from torture.callers import Load, wait_until
from torture.cluster import Stage
from torture.load import Report, under_load

SHARE = 0.2
PROXY_THREADS = 64


def replies_dropped(count: int, load: Load) -> Report:
    """Drop one of every five answers."""
    return _by_chance(lose, count, load)


def requests_dropped(count: int, load: Load) -> Report:
    """Drop one of every five requests."""
    return _by_chance(drop, count, load)


def _by_chance(fault: Fault, count: int, load: Load) -> Report:
    chances = [Chance({fault: SHARE}, seed) for seed in (1, 2)]

    @contextmanager
    def proxied(stage: Stage) -> Iterator[Sequence[str]]:
        proxies = [Proxy(target, chance, PROXY_THREADS) for target, chance in zip(stage.targets, chances, strict=True)]
        yield [proxy.target for proxy in proxies]
        for proxy in proxies:
            proxy.stop()

    def inject(stage: Stage) -> tuple[int, str]:
        while (injected := sum(chance.injected for chance in chances)) < count:
            time.sleep(0.05)
        return injected, ""

    return under_load(inject, load, through=proxied)


def connections_cut(count: int, load: Load) -> Report:
    """Cut connections in the middle of a message, in either direction."""
    proxies: list[TcpProxy] = []

    @contextmanager
    def proxied(stage: Stage) -> Iterator[Sequence[str]]:
        proxies.extend(TcpProxy(port, seed) for seed, port in enumerate(stage.ports))
        yield [proxy.target for proxy in proxies]
        for proxy in proxies:
            proxy.stop()

    def inject(stage: Stage) -> tuple[int, str]:
        for number in range(count):
            proxy = proxies[number % len(proxies)]
            proxy.cut()
            assert wait_until(proxy.has_cut), "nothing passes the proxy any more"
            time.sleep(0.05)
        return count, ""

    return under_load(inject, load, through=proxied)
