"""Monitors Redis while the server runs: is it usable, and does it persist what it is given?"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from enum import Enum

import redis

from statecast.service.errors import StartupError
from statecast.service.metrics import Metrics
from statecast.service.store.nodes import Client, probe
from statecast.service.store.redis_url import redact
from statecast.service.store.requirements import check_usable, volatility

log = logging.getLogger(__name__)

PROBE_SECONDS = 1.0
CHECK_SECONDS = 10.0
"""Interval at which every needed command is tried, and the settings are checked."""
PATIENCE_SECONDS = 10.0
"""Time without a good probe before the services are not ready; a failover takes less."""
GOOD_PROBES = 2


class _Found(Enum):
    """The result of a probe."""

    GOOD = "good"
    PARTLY = "partly"
    FAILED = "failed"
    REFUSED = "refused"


class Monitor:
    """Probes Redis in a thread and reports readiness; requests are answered in any case."""

    def __init__(
        self,
        client: Client,
        url: str,
        namespace: str,
        metrics: Metrics,
        tell_ready: Callable[[bool], None],
        *,
        allow_volatile: bool,
    ) -> None:
        """Monitor the Redis of `client`; `allow_volatile` skips the check for settings that lose data."""
        self._client, self._url, self._namespace = client, url, namespace
        self._metrics, self._tell_ready, self._allow_volatile = metrics, tell_ready, allow_volatile
        metrics.redis_up.set(1)  # the server starts only with a Redis that it can use
        self._is_ready, self._good = True, GOOD_PROBES
        self._failing_since: float | None = None
        self._checked_at, self._problem, self._refusal = time.monotonic(), "", ""
        self._wanted = asyncio.Event()

    def look_now(self) -> None:
        """Probe immediately, because Redis refused something; called in the event loop."""
        self._checked_at = -math.inf
        self._wanted.set()

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                self._judge(await asyncio.to_thread(self._probe))
            except Exception:  # a bug; the next probe may succeed
                log.exception("Redis could not be probed")

    def _probe(self) -> _Found:
        try:
            missing = probe(self._client)
            has_recovered = self._failing_since is not None
            if has_recovered or self._refusal or time.monotonic() - self._checked_at >= CHECK_SECONDS:
                check_usable(self._client, self._url, self._namespace)
                self._look_at_settings()
                self._checked_at = time.monotonic()
        except StartupError as error:
            if str(error) != self._refusal:
                log.error("%s", error)
            self._refusal = str(error)
            return _Found.REFUSED
        except redis.RedisError as error:
            log.debug("Redis cannot be used: %s", error)
            return _Found.FAILED
        self._refusal = ""
        return _Found.PARTLY if missing else _Found.GOOD

    def _look_at_settings(self) -> None:
        problem = "" if self._allow_volatile else volatility(self._client)
        if problem != self._problem:
            if problem:
                log.error("Redis at %s %s. Requests are still served.", redact(self._url), problem)
            else:
                log.info("Redis at %s persists sessions again", redact(self._url))
        self._problem = problem
        self._metrics.redis_volatile.set(bool(problem))

    def _judge(self, found: _Found) -> None:
        now = time.monotonic()
        self._metrics.redis_up.set(found is _Found.GOOD)
        if found in (_Found.GOOD, _Found.PARTLY):  # the other nodes of a cluster serve their sessions
            self._good, self._failing_since = self._good + 1, None
        else:
            self._good, self._failing_since = 0, self._failing_since or now
        is_late = self._failing_since is not None and now - self._failing_since >= PATIENCE_SECONDS
        if self._is_ready and (found is _Found.REFUSED or is_late):
            self._show(False)
        elif not self._is_ready and self._good >= GOOD_PROBES:
            self._show(True)

    def _show(self, is_ready: bool) -> None:
        self._is_ready = is_ready
        if is_ready:
            log.info("Redis can be used again: the services report SERVING")
        else:
            log.error("Redis cannot be used: the services report NOT_SERVING, but still answer")
        self._tell_ready(is_ready)
