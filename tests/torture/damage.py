"""Records with changed or missing bytes in Redis, which must not lead to a wrong answer."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from support.checker import tags_along
from support.hash_model import HORIZON, read, told_after

from statecast.client import Client
from statecast.client._messages import to_forecast
from statecast.client._response import to_response
from statecast.service.session_key import DEFAULT_TENANT
from statecast.service.settings import Settings
from statecast.v1 import forecast_pb2, forecast_service_pb2
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from torture.cluster import Setting, Stage, staged
from torture.load import Report

SESSIONS = 24
COMPANIONS = 3
"""Other sessions in the same call, which must not be affected."""
LONGEST_ENTRY = 5
COLD = Setting(server_options=("--cache-sessions", "1", "--snapshot-every", "64"))
NOT_ANSWERED = {
    (grpc.StatusCode.FAILED_PRECONDITION.value[0], "RECORD_DAMAGED"): "damaged",
    (grpc.StatusCode.ABORTED.value[0], "SESSION_REGRESSED"): "regressed",
}


@dataclass(frozen=True)
class _Written:
    """A session, all values that it has taken, and its record."""

    session_id: str
    key: str
    values: list[int]
    record: bytes
    tag: int
    boundaries: list[int]
    """Earlier ends of the record since its snapshot; a record truncated there is intact but old."""


def records_damaged(count: int, seed: int) -> Report:
    """Damage one record after the other, request its session together with others, and repair it."""
    dice = random.Random(seed)
    outcomes = dict.fromkeys(("damaged", "regressed", "right"), 0)
    wrong: list[str] = []
    with staged(COLD) as stage, stage.redis.client as redis, grpc.insecure_channel(stage.targets[0]) as channel:
        written = list(_write(stage, dice))
        stub = ForecastServiceStub(channel)
        for number in range(count):
            victim, *others = dice.sample(written, 1 + COMPANIONS)
            damaged, how = damage(victim, dice)
            redis.set(victim.key, damaged, keepttl=True)
            asked = dice.sample([victim, *others], 1 + COMPANIONS)
            results = _ask(stub, asked)
            redis.set(victim.key, victim.record, keepttl=True)
            for session, result in zip(asked, results, strict=True):
                outcome = _judge(session, result, harmed=session is victim)
                if session is victim and outcome in outcomes:
                    outcomes[outcome] += 1
                elif outcome != "right":
                    wrong.append(f"{session.session_id}, damage {number} ({how}): {outcome}")
        wrong += [f"{each.session_id} is not what it was" for each in written if redis.get(each.key) != each.record]
    notes = ", ".join(f"{times:,} {outcome}" for outcome, times in outcomes.items())
    return Report(count, {"acked": count}, sum(len(each.values) for each in written), wrong, notes)


def damage(victim: _Written, dice: random.Random) -> tuple[bytes, str]:
    """Return the record with one to three bits flipped, or without its end."""
    record = victim.record
    chance = dice.random()
    if chance < 0.3:
        size = dice.choice(victim.boundaries) if chance < 0.1 and victim.boundaries else dice.randrange(1, len(record))
        return record[:size], f"cut to {size} of {len(record)} bytes"
    changed = bytearray(record)
    flipped = dice.sample(range(8 * len(record)), dice.randint(1, 3))
    for bit in flipped:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed), f"flipped bits {flipped}"


def _write(stage: Stage, dice: random.Random) -> Iterator[_Written]:
    """Write sessions of different lengths, each a snapshot followed by entries."""
    value = 0
    with Client(stage.targets[0]) as client, stage.redis.client as redis:
        for number in range(SESSIONS):
            session = client.session(f"damaged-{number}", "chain")
            key = f"{Settings().namespace}:{DEFAULT_TENANT}:{session.id}"
            values: list[int] = []
            records: list[Any] = []
            for _ in range(dice.randint(2, 40)):
                entry = list(range(value, value + dice.randint(1, LONGEST_ENTRY)))
                session.observe(entry)
                values += entry
                value += len(entry)
                records.append(redis.get(key))
            *before, record = records
            boundaries = [len(each) for each in before if record.startswith(each)]
            yield _Written(session.id, key, values, record, tags_along(values)[-1], boundaries)


def _ask(stub: Any, sessions: Sequence[_Written]) -> Sequence[Any]:
    """Request a forecast of each session, with its last version."""
    requests = [
        forecast_service_pb2.ForecastRequest(
            session_id=each.session_id,
            horizon=HORIZON,
            last_seen=forecast_pb2.Version(step=len(each.values), tag=each.tag),
        )
        for each in sessions
    ]
    results: Sequence[Any] = stub.ForecastMany(forecast_service_pb2.ForecastManyRequest(requests=requests)).results
    return results


def _judge(session: _Written, result: Any, *, harmed: bool) -> str:
    """Classify an answer: right, an error that a damaged session may get, or a description of the fault."""
    if result.HasField("status"):
        info = error_details_pb2.ErrorInfo()
        reason = next((info.reason for detail in result.status.details if detail.Unpack(info)), "")
        kind = NOT_ANSWERED.get((result.status.code, reason))
        names = session.session_id in result.status.message
        return kind if harmed and kind and names else f"{result.status.code} {reason}: {result.status.message}"
    answer = to_forecast(to_response(result.response))
    if (answer.version.step, answer.version.tag) != (len(session.values), session.tag):
        return f"answered at {answer.version}, not at step {len(session.values)}"
    try:
        told = read(answer.values)
    except ValueError as error:
        return f"answered with nonsense: {error}"
    return "right" if told == told_after(session.values) else f"answered with {told}"
