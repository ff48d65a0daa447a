"""The checker finds every kind of wrong history, and accepts every right one."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.checker import Verdict, Wrong, judge, tags_along
from support.hash_model import told_after
from support.history import Acked, Call, History, Kind, Refused, Unknown

from statecast.service.version import Version

KINDS = [Kind.OBSERVE, Kind.STEP, Kind.FORECAST]


class Service:
    """A correct but slow service, where each call takes effect between its start and its end."""

    def __init__(self, seed: int, *, tells: bool = True) -> None:
        self.random = random.Random(seed)
        self.tells = tells
        self.contents: dict[str, list[int]] = {}
        self.calls: list[Call] = []
        self.open: set[str] = set()
        self._value = 0

    def run(self, sessions: int = 2, calls: int = 60) -> "Service":
        for moment in range(calls):
            self.call(f"s{self.random.randrange(sessions)}", float(moment))
        for session in self.contents:
            self.call(session, calls + 100.0, Kind.FORECAST, "acked")
        return self

    def call(self, session: str, moment: float, kind: Kind | None = None, fate: str | None = None) -> None:
        kind = kind or self.random.choice(KINDS)
        fate = fate or self.random.choice(["acked"] * 5 + ["replayed", "refused", "unknown", "applied"])
        values = [] if kind is Kind.FORECAST else self.fresh(self.random.randint(1, 3))
        content = self.contents.setdefault(session, [])
        opened = fate == "acked" and session not in self.open
        if fate not in ("refused", "unknown"):
            content += values
            self.open.add(session)
        answer: Acked | Refused | Unknown = Unknown()
        if fate == "refused":
            answer = Refused("RESOURCE_EXHAUSTED")
        elif fate in ("acked", "replayed"):
            answer = self.answer(content, kind, opened=opened, replayed=fate == "replayed" and bool(values))
        started, ended = moment - self.random.random() * 3, moment + self.random.random() * 3
        self.calls.append(Call("c", session, kind, str(moment), tuple(values), started, ended, answer))

    def answer(self, content: list[int], kind: Kind, *, opened: bool = False, replayed: bool = False) -> Acked:
        told = told_after(content) if self.tells and kind is not Kind.OBSERVE else None
        return Acked(Version(len(content), tags_along(content)[-1]), replayed, opened, told)

    def fresh(self, count: int) -> list[int]:
        self._value += count
        return list(range(self._value - count + 1, self._value + 1))

    def verdict(self) -> Verdict:
        return judge(History(self.calls))


@given(st.integers(0, 10_000), st.booleans())
def test_a_right_history_is_right_and_known_to_the_last_value(seed: int, tells: bool) -> None:
    service = Service(seed, tells=tells).run(calls=40)
    verdict = service.verdict()
    assert not verdict.findings
    assert verdict.contents == {name: content for name, content in service.contents.items() if content} | {
        name: [] for name in service.contents if not service.contents[name]
    }


def sequence(*fates: str, kind: Kind = Kind.STEP) -> Service:
    """Return a service with one session, called sequentially."""
    service = Service(1)
    for position, fate in enumerate(fates):
        service.call("s", position * 10.0, kind, fate)
    return service


def rewrite(service: Service, content: list[int]) -> None:
    """Replace the last answer by that of a session with this content."""
    service.calls.append(Call("c", "s", Kind.FORECAST, "", (), 1e3, 1e3, service.answer(content, Kind.FORECAST)))


def kinds(service: Service) -> set[Wrong]:
    return {finding.wrong for finding in service.verdict().findings}


def _lost(service: Service) -> None:
    content = service.contents["s"]
    del content[-len(service.calls[-1].values) :]
    service.calls[-1] = replace(service.calls[-1], kind=Kind.OBSERVE, outcome=Acked(Version(len(content), 0), True))
    rewrite(service, content)


def _duplicate(service: Service) -> None:
    rewrite(service, service.contents["s"] + list(service.calls[-1].values))


def _swapped(service: Service) -> None:
    content = service.contents["s"]
    rewrite(service, [*content[:-2], content[-1], content[-2]])


def _stale_overwrite(service: Service) -> None:
    stale = service.contents["s"][: -len(service.calls[-1].values)]
    values = service.fresh(len(service.calls[-1].values))
    answer = service.answer(stale + values, Kind.STEP)
    service.calls.append(Call("d", "s", Kind.STEP, "", tuple(values), 1e3, 1e3, answer))


def _leaked(service: Service) -> None:
    rewrite(service, service.contents["s"] + service.fresh(1))


def _refused_but_there(service: Service) -> None:
    values = service.fresh(2)
    service.calls.append(Call("d", "s", Kind.STEP, "", tuple(values), 60.0, 61.0, Refused("RESOURCE_EXHAUSTED")))
    rewrite(service, service.contents["s"] + values)


def _torn(service: Service) -> None:
    values = service.fresh(2)
    service.calls.append(Call("d", "s", Kind.STEP, "", tuple(values), 60.0, 61.0, Unknown()))
    rewrite(service, service.contents["s"] + values[:1])


def _wrong_tag(service: Service) -> None:
    change(service, version=Version(len(service.contents["s"]), 7))


def _wrong_hash(service: Service) -> None:
    change(service, told=told_after(service.contents["s"])._replace(hash=7))


def _wrong_step(service: Service) -> None:
    change(service, told=told_after(service.contents["s"])._replace(step=1))


def _late_answer(service: Service) -> None:
    """Let the answer to the first append show a later append, although it is not a replay."""
    change(service, version=None)
    values = service.fresh(1)
    answer = service.answer(service.contents["s"] + values, Kind.STEP)
    first = service.calls[-1]
    service.calls[-1] = replace(first, outcome=answer)
    service.calls.append(Call("d", "s", Kind.STEP, "", tuple(values), first.started, first.ended, answer))


def _stale_read(service: Service) -> None:
    older = service.contents["s"][: -len(service.calls[-1].values)]
    rewrite(service, older)


def _from_the_future(service: Service) -> None:
    service.calls[-1] = replace(service.calls[-1], started=500.0, ended=501.0)
    answer = service.answer(service.contents["s"], Kind.FORECAST)
    service.calls.append(Call("d", "s", Kind.FORECAST, "", (), 100.0, 101.0, answer))


def _out_of_order(service: Service) -> None:
    """Give the last call but one a time after the last call, which still follows it in the history."""
    first, last = service.calls[-2:]
    service.calls[-2] = replace(first, started=last.started + 100, ended=last.ended + 100)


def _opened_twice(service: Service) -> None:
    change(service, opened=True)


def _back_from_the_dead(service: Service) -> None:
    moment = service.calls[-1].started - 5
    service.calls.append(Call("d", "s", Kind.FORECAST, "", (), moment, moment, Refused("NOT_FOUND")))


def _closed_but_there(service: Service) -> None:
    moment = service.calls[-1].started - 5
    service.calls.append(Call("d", "s", Kind.CLOSE, "", (), moment, moment, Acked(None)))


def _unproved(service: Service) -> None:
    for _ in range(20):
        service.contents["s"] += service.fresh(3)
    rewrite(service, service.contents["s"])


def change(service: Service, **changes: Any) -> None:
    outcome = service.calls[-1].outcome
    assert isinstance(outcome, Acked)
    service.calls[-1] = replace(service.calls[-1], outcome=replace(outcome, **changes))


SPOILED = [
    (_lost, Wrong.LOST),
    (_duplicate, Wrong.DUPLICATE),
    (_swapped, Wrong.DISAGREE),
    (_stale_overwrite, Wrong.DISAGREE),
    (_stale_overwrite, Wrong.LOST),
    (_leaked, Wrong.LEAK),
    (_refused_but_there, Wrong.REFUSED),
    (_torn, Wrong.TORN),
    (_wrong_tag, Wrong.TAG),
    (_wrong_hash, Wrong.HASH),
    (_wrong_step, Wrong.HASH),
    (_late_answer, Wrong.POSITION),
    (_stale_read, Wrong.STALE),
    (_from_the_future, Wrong.FUTURE),
    (_out_of_order, Wrong.ORDER),
    (_opened_twice, Wrong.OPENED),
    (_back_from_the_dead, Wrong.GONE),
    (_closed_but_there, Wrong.GONE),
    (_unproved, Wrong.HOLE),
]


@pytest.mark.parametrize(("spoil", "wrong"), SPOILED)
def test_what_is_wrong_is_found(spoil: Callable[[Service], None], wrong: Wrong) -> None:
    service = sequence(*["acked"] * 6)
    assert not kinds(service)
    spoil(service)
    assert wrong in kinds(service)


def test_every_kind_of_wrong_has_a_history_that_shows_it() -> None:
    assert {wrong for _, wrong in SPOILED} | {Wrong.FORECAST} == set(Wrong)


@given(st.integers(0, 10_000))
def test_a_value_taken_out_of_any_right_history_is_missed(seed: int) -> None:
    """A forgotten value makes every later answer show another history."""
    service = Service(seed).run(sessions=1, calls=30)
    acked = [call for call in service.calls if call.acked and call.values and call.ended < 20]
    if not acked:
        return
    victim = random.Random(seed).choice(acked).values[0]
    content = [value for value in service.contents["s0"] if value != victim]
    final = service.calls[-1]
    service.calls[-1] = replace(final, outcome=service.answer(content, Kind.FORECAST))
    assert kinds(service)


def test_a_fork_begins_with_what_its_source_had() -> None:
    service = sequence("acked", "acked", "acked")
    source = list(service.contents["s"])
    service.calls.append(
        Call("c", "f", Kind.FORK, "f", (), 40.0, 41.0, service.answer(source, Kind.OBSERVE), source="s")
    )
    service.contents["f"] = source
    service.open.add("f")
    service.call("f", 50.0, Kind.STEP, "acked")
    service.call("s", 51.0, Kind.STEP, "acked")
    verdict = service.verdict()
    assert not verdict.findings
    assert verdict.contents == service.contents
    service.contents["f"][0] = 99
    service.call("f", 60.0, Kind.STEP, "acked")
    assert kinds(service)


@pytest.mark.parametrize("fate", ["replayed", "applied"])
def test_without_forecasts_the_tags_tell_where_loose_requests_stand(fate: str) -> None:
    service = Service(3, tells=False)
    for position, each in enumerate(["acked", fate, fate, "acked", fate, "unknown", "acked", "refused"]):
        service.call("s", position * 10.0, Kind.STEP, each)
    verdict = service.verdict()
    assert not verdict.findings
    assert verdict.contents == service.contents
