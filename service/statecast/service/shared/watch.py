"""Keeps a server up with what all servers share: reads the policies, notes its models, and counts stranded sessions."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping

from statecast.service.errors import ServiceError
from statecast.service.metrics import Metrics
from statecast.service.models.policies import Policies
from statecast.service.models.registry import Registry
from statecast.service.shared import census
from statecast.service.shared.census import Place
from statecast.service.shared.documents import Documents
from statecast.service.store.redis_store import Store

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
REST = 4.0
"""The count rests for so many times as long as it works."""
LONGEST_COUNT_SECONDS = 3600.0
STOP_SECONDS = 5.0
MOST_SHOWN = 5


class SharedWatch:
    """Reads what others have changed, about once a second, in its own thread; counts sessions once, in another."""

    def __init__(self, watch_store: Store, count_store: Store, registry: Registry, metrics: Metrics) -> None:
        self._documents, self._count_store = Documents(watch_store), count_store
        self._registry, self._metrics = registry, metrics
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._published: set[str] = set()
        self._older: Policies | None = None
        # Daemons: a thread that waits for Redis must not keep the process alive.
        self._threads = [
            threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True)
            for work in (self._watch_shared, self._count_stranded)
        ]

    def start(self) -> None:
        """Read the policies before the first request, then keep up with them.

        Raises:
            ServiceError: if Redis cannot be used.
        """
        self._registry.ask_for_policies(self._wake.set)
        self._look()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; wait for a limited time."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(STOP_SECONDS)

    def _watch_shared(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()
            try:
                self._look()
            except ServiceError as error:  # the store has logged that Redis is lost
                log.debug("the policies cannot be read: %s", error)
            except Exception:  # a bug; sessions go on by the policies that are known
                log.exception("the policies cannot be read")

    def _look(self) -> None:
        registry, asked = self._registry, self._registry.asked_revision
        policies = self._documents.policies()
        is_older = policies.revision < registry.policies.revision
        # What was read may be from before a change by this server; if it stays older, Redis has lost that change.
        if policies != registry.policies and (not is_older or policies == self._older):
            registry.adopt(policies)
        self._older = policies if is_older else None
        registry.confirm(asked)
        new = [model for model in registry if model.digest not in self._published]
        self._documents.publish(new)
        self._published.update(model.digest for model in new)

    def _count_stranded(self) -> None:
        """Say how many sessions stand on versions that this server does not have."""
        until = time.monotonic() + LONGEST_COUNT_SECONDS

        def pause(seconds: float) -> bool:
            return self._stopping.wait(REST * seconds) or time.monotonic() > until

        try:
            found = census.count(self._count_store, pause)
        except ServiceError as error:
            log.warning("the sessions of other model versions were not counted: %s", error)
        except Exception:  # a bug; nothing else depends on it
            log.exception("the sessions of other model versions were not counted")
        else:
            if found is not None:
                self._tell(found)

    def _tell(self, found: Mapping[Place, int]) -> None:
        stranded: Counter[tuple[str, str]] = Counter()
        for (name, version, digest), count in found.items():
            model = self._registry.find(name, version)
            if model is None or model.digest_bytes != digest:
                stranded[name, version] += count
        for labels, count in stranded.items():
            self._metrics.sessions_stranded.labels(*labels).set(count)
        if not stranded:
            log.info("no session in Redis stands on a model version that this server does not have")
            return
        shown = [f"{name} {version}: {count:,}" for (name, version), count in stranded.most_common(MOST_SHOWN)]
        more = len(stranded) - len(shown)
        log.warning(
            "%s sessions in Redis stand on model versions that this server does not have (%s%s); bring these back, or "
            "move the sessions to a version that is here: statecast sessions upgrade",
            f"{stranded.total():,}", ", ".join(shown), f", and {more} more" if more > 0 else "",
        )  # fmt: skip
