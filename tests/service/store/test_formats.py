"""Records of format 3, which servers before format 4 wrote, are read, and written in that format.

Such a server made `records/format_3.json`: old and new replicas share a Redis during an upgrade.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from support.models import write_rich_models
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client, NotFound
from statecast.service.settings import Settings
from statecast.service.store.record import STAMP_BYTES, Record, checksum_of, decode, encode_entry, encode_snapshot

OLD: dict[str, Any] = json.loads((Path(__file__).parent / "records" / "format_3.json").read_text())
FORMAT_BYTE = 4


def record_of(name: str) -> bytes:
    return base64.b64decode(OLD[name]["record"])


def written_again(name: str, data: bytes) -> bytes:
    """Return the record as this server writes it."""
    record = decode(name, data)
    first = encode_snapshot(name, record.snapshot, bytes(STAMP_BYTES))
    stamps = [data[len(first) - STAMP_BYTES : len(first)]]
    written = encode_snapshot(name, record.snapshot, stamps[0])
    for entry in record.entries:
        size = len(encode_entry(checksum_of(name), entry, bytes(STAMP_BYTES)))
        stamp = data[len(written) + size - STAMP_BYTES : len(written) + size]
        written += encode_entry(checksum_of(name), entry, stamp)
    return written


@pytest.mark.parametrize("name", list(OLD))
def test_an_old_record_is_read_and_written_byte_for_byte(name: str) -> None:
    data = record_of(name)
    record: Record = decode(name, data)
    assert data[FORMAT_BYTE] == 3
    assert record.newest.version.step == OLD[name]["step"]
    assert (record.snapshot.time_zone, record.snapshot.is_on_wall_clock, record.snapshot.max_ahead_ms) == (
        "",
        False,
        None,
    )
    assert written_again(name, data) == data


def test_a_new_server_goes_on_with_old_records_and_writes_such(any_redis: RedisProcess, tmp_path: Path) -> None:
    """Old replicas can read the entries and snapshots that it writes."""
    settings = Settings(
        redis_url=any_redis.url, models=write_rich_models(tmp_path), namespace="old-records", snapshot_every=2
    )
    for name in OLD:
        any_redis.client.set(f"old-records:default:{name}", record_of(name), px=40 * 86_400_000)

    def in_redis(name: str) -> bytes:
        data = any_redis.client.get(f"old-records:default:{name}")
        assert isinstance(data, bytes)
        return data

    server = ServerThread(settings)
    try:
        with Client(server.target) as client:
            meter = client.session("meter", model="base", upgrade=True)
            forecast = meter.forecast(3)
            assert (forecast.version.step, f"{forecast.version.tag:016x}") == (
                OLD["meter"]["step"],
                OLD["meter"]["tag"],
            )
            assert meter.observe([20.2, 20.6], request_id="second").replayed
            for value in (20.5, 20.4, 20.6):
                meter.observe(value)
                data = in_redis("meter")
                assert data[FORMAT_BYTE] == 3
                assert written_again("meter", data) == data
            with pytest.raises(NotFound, match="was closed"):
                client.session("gone", resume_only=True).forecast(3)
            zoned = client.session("zoned", model="base", time_zone="Europe/Berlin")
            zoned.observe(1.0)
            assert in_redis("zoned")[FORMAT_BYTE] == 4
    finally:
        server.stop()
