"""Sessions that expire while in use: every expiry is reported."""

import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from support.history import Call, Kind, Refused

from statecast.client import Client, Session
from torture.callers import Load, settle
from torture.cluster import Setting, address, staged
from torture.load import Report, conclude
from torture.requests import Ask, Desk

TIME_TO_LIVE_SECONDS = 1.0
SHORTEST_SECONDS, LONGEST_SECONDS = 0.0, 0.05
SESSIONS = 24
"""Sessions of each caller; some of them stay idle beyond their time to live, others do not."""
# An expired session leaves a tombstone for as long as its time to live, then no trace.
SILENT_SECONDS = {"SESSION_EXPIRED": TIME_TO_LIVE_SECONDS, "SESSION_NOT_FOUND": 2 * TIME_TO_LIVE_SECONDS}
"""Least seconds since its last observation before a session may be refused, by reason."""


def sessions_expiring(count: int, load: Load) -> Report:
    """Run until `count` sessions have expired while in use; their callers open them again."""
    desk = Desk([], load.seed)
    expired = threading.Semaphore(0)
    done = threading.Event()
    callers = load.callers
    with staged(Setting()) as stage, ThreadPoolExecutor(callers) as pool:
        owners = [_Owner(f"caller-{number}", desk, expired, number) for number in range(callers)]
        work = [pool.submit(owner.work, address(stage.targets), done) for owner in owners]
        try:
            for _ in range(count):
                assert expired.acquire(timeout=60), "no session expires any more"
        finally:
            done.set()
        for each in work:
            each.result()
    report = conclude(desk.history, frozenset(SILENT_SECONDS))
    report.injected = sum(isinstance(call.outcome, Refused) for call in desk.history.calls)
    report.wrong += [f"{call.session}: {call.outcome} too early ({call})" for call in _too_early(desk.history.calls)]
    return report


class _Owner:
    """The only caller of its sessions, which therefore knows how often each was opened again."""

    def __init__(self, name: str, desk: Desk, expired: threading.Semaphore, seed: int) -> None:
        self._name, self._desk, self._expired = name, desk, expired
        self._random = random.Random(seed)
        self._lives = [0] * SESSIONS

    def work(self, target: str, done: threading.Event) -> None:
        run = uuid.uuid4().hex
        with Client(target) as client:

            def opened(number: int) -> Session:
                return client.session(f"{run}-{number}", "chain", time_to_live=TIME_TO_LIVE_SECONDS)

            sessions = [opened(number) for number in range(SESSIONS)]
            while not done.is_set():
                number = self._random.randrange(SESSIONS)
                if self._ask(number, sessions[number]):
                    sessions[number] = opened(number)
                    self._lives[number] += 1
                time.sleep(self._random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))

    def _ask(self, number: int, session: Session) -> bool:
        """Send a request, and return whether the session was gone."""
        kind = self._random.choice((Kind.STEP, Kind.STEP, Kind.FORECAST))
        values = () if kind is Kind.FORECAST else self._desk.values.take(self._random.randint(1, 3))
        ask = Ask(self._name, f"chain-{self._name}-{number}-life-{self._lives[number]}", kind, values)
        outcome = settle(ask, session)
        self._desk.settled(ask, outcome)
        gone = isinstance(outcome, Refused)
        if gone:
            self._expired.release()
        return gone


def _too_early(calls: Sequence[Call]) -> Iterator[Call]:
    """Yield refusals that came too soon after the session's last observation for it to have expired."""
    renewed: dict[str, float] = {}
    for call in sorted(calls, key=lambda each: each.ended):
        if isinstance(call.outcome, Refused):
            silence = SILENT_SECONDS.get(call.outcome.reason, 0.0)
            if call.ended < renewed.get(call.session, 0.0) + silence:
                yield call
        elif call.acked and (call.values or call.acked.opened):
            renewed[call.session] = call.started
