"""Watches the sessions that somebody looks at: reads each once a second at most, however many look at it.

The engine is not asked. A session's record is read when its stamp has changed, by a thread with a connection of its
own, which rests for three times as long as it works. Viewers take the newest view when they are ready for it.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from statecast.service.access.principal import ANYBODY, Principal
from statecast.service.engine.session_loading import Loaded, load
from statecast.service.errors import Overloaded, ServiceError, quoted
from statecast.service.models.registry import Registry
from statecast.service.page.follower import Follower, View
from statecast.service.session_key import id_of
from statecast.service.store.record import tombstone_ms
from statecast.service.store.redis_store import Commit, Operation, Store, Stored, Verdict
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Shortest time between two looks at a session; later ones are further apart if they take long."""
SOONEST_SECONDS = 0.1
REST = 3.0
"""Rest after a look, in times of its length: so the thread takes at most a quarter of a core."""
KEPT_SECONDS = 60.0
"""How long a session's points are kept after its last viewer has left, who may just be reconnecting."""


@dataclass(eq=False)
class Watch:
    """A session that is watched.

    Attributes:
        key: Its key.
        view: Its newest view; None before the first.
        serial: Number of that view.
        encoded: Events made of that view, which viewers share, by what they have seen.
        viewers: How many look at it.
        left_at: When the last of them left.
    """

    key: str
    view: View | None = None
    serial: int = 0
    encoded: dict[object, bytes] = field(default_factory=dict)
    viewers: int = 0
    left_at: float = 0.0
    follower: Follower = field(default_factory=Follower)
    stamp: bytes | None = None
    tombstone_ms: int = 0


@dataclass(eq=False)
class Viewer:
    """Somebody who looks at a session; `refusal` is the error that ends it."""

    watch: Watch
    principal: Principal
    refusal: ServiceError | None = None


class Watcher:
    """Reads watched sessions in its own thread. Viewers may come and go in any thread."""

    def __init__(self, store: Store, registry: Registry, most_viewers: int) -> None:
        self._store, self._registry, self._most = store, registry, most_viewers
        self._watches: dict[str, Watch] = {}
        self._viewers: set[Viewer] = set()
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End all viewers and the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def viewers(self) -> int:
        """Number of viewers."""
        return len(self._viewers)

    @property
    def is_stopped(self) -> bool:
        """True once no view will come any more."""
        return self._stopped

    def enter(self, key: str, principal: Principal) -> Viewer:
        """Let somebody look at a session.

        Raises:
            Overloaded: if too many look already.
        """
        with self._changed:
            self._check_room(principal)
            watch = self._watches.setdefault(key, Watch(key))
            watch.viewers += 1
            viewer = Viewer(watch, principal)
            self._viewers.add(viewer)
            if watch.viewers == 1:
                self._wake.set()
            return viewer

    def leave(self, viewer: Viewer) -> None:
        """Note that a viewer has left."""
        with self._changed:
            if viewer in self._viewers:
                self._viewers.remove(viewer)
                viewer.watch.viewers -= 1
                viewer.watch.left_at = time.monotonic()

    def wait(self, viewer: Viewer, serial: int, seconds: float) -> tuple[View | None, int]:
        """Wait for a view after that with the number `serial`, no longer than so many seconds; None without one."""
        watch = viewer.watch
        with self._changed:
            self._changed.wait_for(lambda: watch.serial > serial or viewer.refusal or self._stopped, seconds)
            return (watch.view, watch.serial) if watch.serial > serial else (None, serial)

    def encoded(self, watch: Watch, view: View, key: object, encode: Callable[[], bytes]) -> bytes:
        """Return what `encode` makes of a view, made once for all viewers that ask with the same key."""
        found = watch.encoded.get(key) if watch.view is view else None
        if found is None:
            found = encode()
            with self._changed:
                if watch.view is view:
                    watch.encoded[key] = found
        return found

    def look(self, refusal_of: Callable[[Principal], ServiceError | None]) -> None:
        """End the viewers whose credential is not valid any more."""
        with self._changed:
            for viewer in self._viewers:
                viewer.refusal = refusal_of(viewer.principal)
            if any(viewer.refusal for viewer in self._viewers):
                self._changed.notify_all()

    def _check_room(self, principal: Principal) -> None:
        own = Counter(viewer.principal.tenant for viewer in self._viewers)[principal.tenant]
        most = self._most if principal is ANYBODY else (self._most + 1) // 2
        if len(self._viewers) >= self._most or own >= most:
            raise Overloaded(
                f"{len(self._viewers)} viewers look at sessions already, {own} of them of your tenant; close a page, "
                "or ask the server's operator to raise --page-viewers",
                Reason.STREAMS_FULL,
                5.0,
            )

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            self._wake.clear()
            if self._stopped:  # asked after the clear, which may have come after the last wake
                return
            try:
                self._look(self._due())
            except Exception:  # a bug; the others must still be looked at next time
                log.exception("watched sessions could not be looked at")
            took = time.monotonic() - started
            time.sleep(max(SOONEST_SECONDS, REST * took))
            self._wake.wait(LOOK_SECONDS if self._watches else None)

    def _due(self) -> list[Watch]:
        """Return the watches with viewers, and forget those without any for a while."""
        with self._changed:
            now = time.monotonic()
            idle = sorted((each for each in self._watches.values() if not each.viewers), key=lambda each: each.left_at)
            for position, watch in enumerate(reversed(idle)):
                if now - watch.left_at > KEPT_SECONDS or position >= self._most:
                    del self._watches[watch.key]
            return [each for each in self._watches.values() if each.viewers]

    def _look(self, watches: list[Watch]) -> None:
        try:
            moved = self._moved(watches)
            records = self._store.load([watch.key for watch in moved])
        except ServiceError as error:
            for watch in watches:
                watch.stamp = None
                self._publish(watch, replace(watch.view or View(), problem=error.message))
            return
        for watch, stored in zip(moved, records, strict=True):
            self._publish(watch, self._view(watch, stored))

    def _moved(self, watches: Iterable[Watch]) -> list[Watch]:
        """Return the watches whose records are not those that were read last."""
        known = {watch.key: watch for watch in watches if watch.stamp is not None}
        checks = [
            Commit(key, Operation.CHECK, watch.stamp or b"", tombstone_ms=watch.tombstone_ms)
            for key, watch in known.items()
        ]
        verdicts = self._store.commit(checks)
        return [watch for watch in watches if verdicts.get(watch.key) is not Verdict.DONE]

    def _view(self, watch: Watch, stored: Stored | None) -> View:
        """Return the view of a session as it is stored, and note its stamp."""
        watch.stamp, watch.tombstone_ms = None, 0
        before = watch.view or View()
        try:
            loaded = load(watch.key, stored, self._registry)
            if loaded.session is None:
                watch.stamp = loaded.stamp
                return replace(before, problem=_gone(watch.key, loaded), is_gone=True)
            view = watch.follower.follow(loaded)
        except ServiceError as error:
            return replace(before, problem=error.message, is_gone=False)
        except Exception:  # of the model; the session's callers see it, too
            log.exception("session %s could not be followed", quoted(id_of(watch.key)))
            watch.follower = Follower()
            return replace(before, problem="This session could not be computed; the server's log says why.")
        watch.stamp = loaded.session.stamp
        watch.tombstone_ms = tombstone_ms(loaded.session.standing.ttl_ms)
        return view

    def _publish(self, watch: Watch, view: View) -> None:
        with self._changed:
            if watch.view is not None and _is_same_problem(view, watch.view):
                return
            watch.view, watch.serial, watch.encoded = view, watch.serial + 1, {}
            self._changed.notify_all()


def _is_same_problem(view: View, before: View) -> bool:
    """Return True if nothing has changed since the view before, which had a problem already."""
    return bool(view.problem) and (view.problem, view.is_gone, view.standing) == (
        before.problem, before.is_gone, before.standing
    )  # fmt: skip


def _gone(key: str, loaded: Loaded) -> str:
    name = quoted(id_of(key))
    if loaded.gone is None:
        return f"There is no session {name}."
    how = "was closed" if loaded.gone.reason is Reason.SESSION_CLOSED else "has expired"
    return f"Session {name} {how} at step {loaded.gone.version.step}."
