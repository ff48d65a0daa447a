"""The arithmetic of docs/scaling.md, from the layouts of the code and the figures of docs/performance.md."""

import math
import re

import pytest
from bench.compare.models import plain_config
from deploy.files import ROOT
from support.redis_process import RedisProcess

from statecast.client._messages import REQUEST_ID_BYTES
from statecast.model import Forecaster, bundled_models, load_model
from statecast.service.settings import Settings
from statecast.service.store.options import DIGEST_BYTES
from statecast.service.store.record import (
    NONCE_BYTES,
    REMEMBERED_REQUESTS,
    REMEMBERED_VERSIONS,
    Entry,
    Snapshot,
    checksum_of,
    encode_entry,
    encode_snapshot,
)
from statecast.service.version import Version

DOCS = ROOT / "docs"
PAGE, PERFORMANCE = (DOCS / "scaling.md").read_text(), (DOCS / "performance.md").read_text()
KEY = "statecast::meter-00000001"
REQUEST_ID = bytes(2 * REQUEST_ID_BYTES)
SESSIONS = {"10⁴": 10**4, "10⁶": 10**6, "10⁹": 10**9}
SECONDS_BETWEEN = 60
MOST_BUSY = 0.7
NODE_BYTES = 32 * 10**9
KEY_BYTES = 200
"""What Redis takes for a key beside the record's bytes: at most."""


@pytest.fixture(scope="module")
def models() -> dict[str, Forecaster]:
    """Return the models that the page is about."""
    base = load_model(next((bundled_models() / "base").iterdir()))
    assert isinstance(base, Forecaster)
    return {"`base`": base, "LSTM of 2 x 128": Forecaster(plain_config())}


def snapshot(model: Forecaster) -> bytes:
    """Return a snapshot of a session that remembers as much as it can."""
    recent = {bytes([number]) * len(REQUEST_ID): bytes(DIGEST_BYTES) for number in range(REMEMBERED_REQUESTS)}
    found = Snapshot(
        Version(1000, 1), 0, 1000, recent, model=model.config.name, model_version=model.config.version, width=1,
        state=bytes(model.layout.nbytes),
    )  # fmt: skip
    found.lineage.extend(Version(number, number) for number in range(REMEMBERED_VERSIONS))
    return encode_snapshot(KEY, found, bytes(NONCE_BYTES + 8))


def entry() -> bytes:
    """Return the entry of a request with one observation."""
    appended = Entry(1, bytes(8), 0, REQUEST_ID, bytes(DIGEST_BYTES), Version(1, 1))
    return encode_entry(checksum_of(KEY), appended, bytes(NONCE_BYTES + 8))


def size_class(length: int) -> int:
    """Return what Redis' allocator, jemalloc, takes for so many bytes: it has four sizes between two powers of two."""
    step = 1 << max((length - 1).bit_length() - 3, 4)
    return -(-length // step) * step


def redis_bytes(model: Forecaster) -> int:
    """Return the most memory that a record takes: Redis doubles a value's memory whenever an entry does not fit."""
    length = len(snapshot(model))
    room = size_class(length)
    for _ in range(Settings().snapshot_every - 1):
        length += len(entry())
        room = room if length <= room else size_class(2 * length)
    return room + KEY_BYTES


def server_us() -> dict[str, float]:
    """Return the server's CPU for an observation with its forecast, by mode."""
    later = PERFORMANCE.partition("In one later run beside Triton")[2]
    return {
        mode: float(re.findall(rf"^\| {row}, us \| (\d+) \|", later, re.MULTILINE)[0])
        for mode, row in (
            ("frames", "frames of 256, server CPU per observation"),
            ("single calls", "a call each, 64 at once, server CPU"),
        )
    }


def redis_us() -> float:
    """Return Redis' CPU for an observation in frames of 256."""
    table = PERFORMANCE.partition("| Statecast | a call each | 1 |")[2]
    (found,) = re.findall(r"^\| \| frames of 256 \| 3 frames \|(.*)\|$", table, re.MULTILINE)
    return float(found.split("|")[3])


def size(number: float) -> str:
    """Write bytes as people do."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if number >= factor:
            return f"{number / factor:,.1f} {unit}"
    return f"{number:,.0f} B"


def rows(models: dict[str, Forecaster]) -> list[str]:
    """Return the rows of the page's tables."""
    found = [
        f"| {name} | {model.layout.nbytes:,} | {len(snapshot(model)):,} | {len(entry())} | {redis_bytes(model):,} |"
        for name, model in models.items()
    ]
    for label, sessions in SESSIONS.items():
        rate = sessions / SECONDS_BETWEEN
        memory = [sessions * redis_bytes(model) for model in models.values()]
        cores = [math.ceil(rate * each / 1e6 / MOST_BUSY) for each in server_us().values()]
        nodes = [math.ceil(each / NODE_BYTES) for each in memory]
        cpu = rate * redis_us() / 1e6
        found.append(
            f"| {label} | {rate:,.0f} | {' / '.join(map(size, memory))} | {' / '.join(f'{each:,}' for each in nodes)} "
            f"| {cpu:,.3g} | {' / '.join(f'{each:,}' for each in cores)} |"
        )
    return found


def test_the_tables_are_what_the_code_and_the_measurements_give(models: dict[str, Forecaster]) -> None:
    expected = rows(models)
    missing = [row for row in expected if row not in PAGE.splitlines()]
    assert not missing, "docs/scaling.md should have these rows:\n" + "\n".join(missing)


def test_redis_takes_as_much_memory_as_the_page_says(models: dict[str, Forecaster], every_redis: RedisProcess) -> None:
    for model in models.values():
        every_redis.client.set(KEY, snapshot(model), px=1000_000)
        for _ in range(Settings().snapshot_every - 1):
            every_redis.client.append(KEY, entry())
        measured: int = every_redis.client.memory_usage(KEY)  # type: ignore[assignment]
        every_redis.client.delete(KEY)
        assert 0.7 * redis_bytes(model) < measured <= redis_bytes(model)


def test_what_was_not_measured_says_so() -> None:
    for cores in (4, 8, 16):
        assert f"| {cores} | not measured |" in PAGE
    assert f"{MOST_BUSY:.0%}".replace("%", " %") in PAGE
    assert size(NODE_BYTES) in PAGE


def test_the_page_names_the_figures_that_it_rests_on() -> None:
    frames, calls = server_us().values()
    assert f"observations/s x {redis_us():g} us" in PAGE
    assert f"observations/s x {frames:g} us in frames, or {calls:g} us in single calls" in PAGE
    assert f"at most {1e6 / redis_us():,.0f} observations/s" in PAGE
    assert f"- **Observations/s** is sessions / {SECONDS_BETWEEN} s." in PAGE
