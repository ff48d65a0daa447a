"""Inject a fault under load, then read every session and judge the history."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from support.checker import judge
from support.history import Call, History, Kind, Refused
from support.models import tiny_model
from support.replay import judge_forecasts

from torture.callers import AsyncCaller, Caller, Load, StreamCaller, ThreadCaller, sweep
from torture.cluster import Setting, Stage, address, staged
from torture.requests import Desk, is_fork, sessions_of

FORKS = (Kind.FORK, Kind.CLOSE)
CLOSED = frozenset({"SESSION_CLOSED", "VERSION_MISMATCH"})
"""Reasons why a call to a fork may be refused: the fork was closed, or it changed before a close."""


@dataclass
class Report:
    """The results of one fault."""

    injected: int
    outcomes: Mapping[str, int] = field(default_factory=dict)
    values: int = 0
    wrong: list[str] = field(default_factory=list)
    notes: str = ""
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        return sum(self.outcomes.values())

    def line(self, name: str) -> str:
        acked, refused, unknown = (self.outcomes.get(each, 0) for each in ("acked", "refused", "unknown"))
        told = f"{name:<20} injected {self.injected:>6,}  calls {self.calls:>7,}  acked {acked:>7,}"
        told += f"  refused {refused:>6,}  unknown {unknown:>6,}  values {self.values:>7,}"
        return f"{told}  wrong {len(self.wrong):>3}  {self.seconds:>6.1f} s  {self.notes}".rstrip()


Through = Callable[[Stage], AbstractContextManager[Sequence[str]]]


@contextmanager
def direct(stage: Stage) -> Iterator[Sequence[str]]:
    """Let callers reach the servers directly."""
    yield stage.targets


def under_load(
    inject: Callable[[Stage], tuple[int, str]],
    load: Load | None = None,
    setting: Setting | None = None,
    through: Through = direct,
    allowed: frozenset[str] = frozenset(),
) -> Report:
    """Inject a fault while callers call.

    Args:
        inject: Injects and repairs the fault; returns the number of injections, and notes.
        load: The callers.
        setting: Options of Redis and the servers.
        through: Connects callers and servers, for example by a proxy.
        allowed: Reasons of refusals that this fault may cause.
    """
    load = load or Load()
    desk = Desk(sessions_of(load.chains, load.tinies), load.seed, forks=load.forks)
    with staged(setting or Setting()) as stage:
        with through(stage) as targets:
            callers = _callers(address(targets), desk, load)
            injected, notes, failures = 0, "", []
            try:
                injected, notes = inject(stage)
            except AssertionError:  # the fault could not be injected, but all answers must still be right
                failures.append(traceback.format_exc())
            finally:
                failures += _finish(callers)
        sweep(address(stage.targets), desk)
    report = conclude(desk.history, allowed)
    report.injected, report.notes = injected, ", ".join(filter(None, (notes, _forks(desk.history))))
    report.wrong += failures
    return report


def _callers(target: str, desk: Desk, load: Load) -> list[Caller]:
    kinds: list[type[Caller]] = [ThreadCaller] * load.threads + [AsyncCaller] * load.asynchronous
    kinds += [StreamCaller] * load.streams
    desks = desk.shares(len(kinds)) if load.owned else [desk] * len(kinds)
    pairs = enumerate(zip(kinds, desks, strict=True))
    return [kind(f"caller-{number}", target, each, load, hops=number % 2 == 0) for number, (kind, each) in pairs]


def _finish(callers: Sequence[Caller]) -> list[str]:
    """Let all callers settle their requests; return their failures."""
    for caller in callers:
        caller.stopping.set()
    for caller in callers:
        caller.join()
    return [caller.failure for caller in callers if caller.failure]


def conclude(history: History, allowed: frozenset[str] = frozenset()) -> Report:
    """Judge a run's history."""
    verdict = judge(history)
    findings = [*verdict.findings, *judge_forecasts(history, verdict, tiny_model())]
    wrong = [str(finding) for finding in findings]
    wrong += [f"refused: {call} of {call.session}: {call.outcome}" for call in _surprises(history, allowed)]
    return Report(0, verdict.outcomes, sum(map(len, verdict.contents.values())), wrong)


def _forks(history: History) -> str:
    forks, closes = (sum(call.kind is kind and call.acked is not None for call in history.calls) for kind in FORKS)
    return f"{forks} forks, {closes} of them closed" if forks else ""


def _surprises(history: History, allowed: frozenset[str]) -> Iterator[Call]:
    for call in history.calls:
        if isinstance(call.outcome, Refused):
            expected = allowed | (CLOSED if is_fork(call.session) else frozenset())
            if call.outcome.reason not in expected:
                yield call
