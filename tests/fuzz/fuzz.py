"""Fuzzing of one RPC with every kind of input; collects wrong answers."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.checks import Levels, wrong_with
from fuzz.messages import structured
from fuzz.mutations import mutated, random_bytes
from fuzz.place import MIB, Bystanders, Place
from fuzz.rpcs import Caller, Rpc

MOST_GROWTH = 160 * MIB
"""Most additional memory that the server may use for any input."""
SHOWN_BYTES = 300
MOST_HANGING = 3
"""Number of unanswered calls after which the fuzzer stops, because each takes long."""


@dataclass(frozen=True)
class Example:
    """The frames of one call, and the kind of their generator."""

    kind: str
    frames: tuple[bytes, ...]


@dataclass
class Report:
    """The results of one RPC's examples."""

    rpc: str
    kinds: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, Example] = field(default_factory=dict)
    """The smallest example of each finding."""
    trouble: list[str] = field(default_factory=list)
    growth: int = 0
    slowest_seconds: float = 0.0
    hanging: int = 0
    seconds: float = 0.0

    @property
    def findings(self) -> list[str]:
        """Return all findings, each with its example."""
        found = [f"{what}\n      {example.kind}: {shown(example)}" for what, example in self.wrong.items()]
        return found + self.trouble

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {count:,}" for code, count in self.codes.most_common())
        return (
            f"{self.rpc:15}{self.kinds.total():7,} examples in {self.seconds:4.0f} s, {len(self.findings)} wrong, "
            f"peak +{self.growth / MIB:.0f} MiB, slowest {self.slowest_seconds:.2f} s: {codes}"
        )


def shown(example: Example) -> str:
    """Return the frames as Python literals, to reproduce a finding."""
    text = repr(example.frames)
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}... ({len(text)} characters)"


def examples(rpc: Rpc) -> st.SearchStrategy[Example]:
    """Generate structured messages, mutated messages and random bytes, mostly of the first kind."""
    kinds = {"structured": structured(rpc), "mutated": mutated(rpc), "random": random_bytes()}
    # one_of() would not draw a branch as often as it is listed.
    named = st.sampled_from(["structured"] * 3 + ["mutated"] * 2 + ["random"])
    return named.flatmap(
        lambda kind: (st.lists(kinds[kind], max_size=3) if rpc.streams else st.tuples(kinds[kind])).map(
            lambda frames: Example(kind, tuple(frames))
        )
    )


def fuzz(place: Place, rpc: Rpc, count: int, chosen_seed: int = 0) -> Report:
    """Send `count` examples to one RPC, and collect all findings in one run."""
    report = Report(rpc.name)
    caller, levels = Caller(place.channel), place.levels()
    bystanders = Bystanders(place.stub, f"bystander-{random.Random(chosen_seed).getrandbits(64):x}-{rpc.name}")
    place.trouble()  # findings of earlier examples are not reported again
    place.forget_peak()
    before, started = place.rss(), time.perf_counter()

    @seed(chosen_seed)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(examples(rpc))
    def send(example: Example) -> None:
        _send(caller, rpc, example, levels, report)

    send()
    report.seconds = time.perf_counter() - started
    report.growth = place.peak() - before
    report.trouble += place.trouble()
    if report.growth > MOST_GROWTH:
        report.trouble.append(f"needed {report.growth / MIB:.0f} MiB on top")
    if place.server.process.poll() is None:
        report.trouble += bystanders.wrong()
    return report


def _send(caller: Caller, rpc: Rpc, example: Example, levels: Levels, report: Report) -> None:
    if report.hanging >= MOST_HANGING:
        return
    started = time.perf_counter()
    answer = caller.call(rpc, example.frames)
    report.slowest_seconds = max(report.slowest_seconds, time.perf_counter() - started)
    report.hanging += answer.hangs
    report.kinds[example.kind] += 1
    report.codes[answer.code.name] += 1
    for what in wrong_with(rpc, example.frames, answer, levels):
        smallest = report.wrong.get(what)
        if smallest is None or len(repr(example.frames)) < len(repr(smallest.frames)):
            report.wrong[what] = example
