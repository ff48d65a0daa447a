"""Metrics by tenant: each request counts once, made-up tenants share a label, and only admins read them."""

import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from support import await_true
from support.redis_process import RedisProcess
from support.servers import ServerThread
from support.wire import OPEN, failure, observations

from statecast.service.access import api_keys
from statecast.service.settings import Settings
from statecast.service.tenant_metrics import OTHER, TenantMetrics
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

TENANTS = st.sampled_from(["acme", "globex", "initech", "umbrella", OTHER, *(f"made-up-{n}" for n in range(20))])
STEPS = "statecast_tenant_observations_total"


@given(st.lists(st.tuples(TENANTS, st.integers(0, 100))), st.integers(1, 4), st.lists(TENANTS, max_size=3))
def test_labels_are_bounded_and_nothing_is_lost(events: list[tuple[str, int]], most: int, first: list[str]) -> None:
    registry = CollectorRegistry()
    found = TenantMetrics(registry, most)
    found.name(first)
    for tenant, steps in events:
        found.appended(tenant, steps)
    sums = {
        sample.labels["tenant"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == STEPS
    }
    seen = dict.fromkeys(each for each in [*first, *(tenant for tenant, steps in events if steps)] if each != OTHER)
    named = list(seen)[:most]
    assert set(sums) == {*named, OTHER}
    expected = Counter({OTHER: 0})
    for tenant, steps in events:
        expected[tenant if tenant in named else OTHER] += steps
    assert sums == {**dict.fromkeys(named, 0), **expected}


def test_a_caller_without_a_tenant_does_not_count() -> None:
    registry = CollectorRegistry()
    found = TenantMetrics(registry, 1)
    found.start_at_zero(["OK", "UNAUTHENTICATED"])
    found.settled("", "UNAUTHENTICATED", "CREDENTIAL_INVALID")
    found.refused("", "QUOTA_EXCEEDED")
    values = [s for f in registry.collect() for s in f.samples if s.name.endswith("_total")]
    assert {each.labels["tenant"] for each in values} == {OTHER}
    assert not any(each.value for each in values)


@dataclass
class Site:
    """A server that names two tenants, one of them because it has limits, and the keys of four."""

    server: ServerThread
    redis: RedisProcess
    keys: dict[str, str]
    stub: Any

    def metadata(self, tenant: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[tenant]}"),)

    def frame(self, tenant: str, *requests: pb.ForecastRequest) -> list[pb.ForecastResult]:
        call = self.stub.ForecastMany(
            pb.ForecastManyRequest(requests=requests), metadata=self.metadata(tenant), timeout=20
        )
        return list(call.results)

    def scrape(self, key: str = "admin") -> str:
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        request = urllib.request.Request(self.server.metrics_url, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            text: str = response.read().decode()
        return text

    def values(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the samples above 0 by these labels."""
        samples = [s for family in text_string_to_metric_families(self.scrape()) for s in family.samples]
        found: dict[tuple[str, ...], float] = {}
        for each in samples:
            if each.name == name:
                key = tuple(each.labels[label] for label in labels)
                found[key] = found.get(key, 0.0) + each.value
        return {key: value for key, value in found.items() if value}


@pytest.fixture
def site(own_redis: RedisProcess, models_folder: Path, tmp_path: Path) -> Iterator[Site]:
    limits, keys = tmp_path / "limits.toml", tmp_path / "keys.json"
    limits.write_text("[limited]\nrequests_per_second = 0.001\nstreams = 1\n")
    made = {tenant: api_keys.create(keys, tenant, "write")[1] for tenant in ("acme", "limited", "late", "other")}
    made["admin"] = api_keys.create(keys, "acme", "admin")[1]
    settings = Settings(
        redis_url=own_redis.url, models=models_folder, api_keys=keys, tenant_limits=limits, tenant_metrics=2,
        redis_timeout_seconds=5.0,
    )  # fmt: skip
    server = ServerThread(settings)
    with grpc.insecure_channel(server.target) as channel:
        yield Site(server, own_redis, made, ForecastServiceStub(channel))
    server.stop()


def asked(session_id: str, *values: float, **others: Any) -> pb.ForecastRequest:
    return pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(*values), **others)


def test_each_request_counts_once_for_its_tenant(site: Site) -> None:
    site.frame("acme", asked("a", 1, 2, request_id="1"), asked("a", 1, 2, request_id="1"), asked("a", horizon=9999))
    site.stub.Forecast(asked("a", 3), metadata=site.metadata("acme"), timeout=20)
    for tenant in ("late", "other"):
        site.frame(tenant, asked("a", 1, 2, 3))
    site.frame("limited", asked("a", 1), asked("a", 2), asked("a", 3))
    with_wrong_key = (("authorization", "Bearer sck_wrong"),)
    failure(lambda: site.stub.Forecast(asked("a", 3), metadata=with_wrong_key, timeout=20))
    assert site.values("statecast_tenant_requests_total", "tenant", "code") == {
        ("acme", "OK"): 3,
        ("acme", "INVALID_ARGUMENT"): 1,
        ("limited", "OK"): 1,
        ("limited", "RESOURCE_EXHAUSTED"): 2,
        (OTHER, "OK"): 2,
    }
    assert site.values("statecast_tenant_quota_refusals_total", "tenant") == {("limited",): 2}
    steps = site.values(STEPS, "tenant")
    assert steps == {("acme",): 3, ("limited",): 1, (OTHER,): 6}
    assert site.values("statecast_observations_total") == {(): sum(steps.values())}


def test_what_is_open_and_what_waits_is_shown_by_tenant(site: Site) -> None:
    over: list[bool] = []

    def frames() -> Iterator[pb.ForecastStreamRequest]:
        yield pb.ForecastStreamRequest(requests=[asked("s", 1)])
        await_true(lambda: bool(over))

    def streams(tenant: str) -> Any:
        return site.stub.ForecastStream(frames(), metadata=site.metadata(tenant), timeout=60)

    site.frame("acme", asked("a", 1))  # which takes the second name
    opened = {tenant: streams(tenant) for tenant in ("limited", "late", "other")}
    for call in opened.values():
        next(call)
    assert site.values("statecast_tenant_streams", "tenant") == {("limited",): 1, (OTHER,): 2}
    failure(lambda: next(streams("limited")))
    assert site.values("statecast_tenant_quota_refusals_total", "tenant") == {("limited",): 1}
    over.append(True)
    for call in opened.values():
        list(call)
    await_true(lambda: site.values("statecast_tenant_streams", "tenant") == {})

    site.redis.pause()
    waiting = [
        site.stub.Forecast.future(asked("q", 1), metadata=site.metadata(tenant), timeout=60)
        for tenant in ("acme", "acme", "late")
        for _ in range(2)
    ]
    await_true(lambda: set(site.values("statecast_tenant_queue_bytes", "tenant")) == {("acme",), (OTHER,)})
    site.redis.resume()
    for each in waiting:
        each.result()
    assert site.values("statecast_tenant_queue_bytes", "tenant") == {}


def test_no_tenant_reads_what_others_do(site: Site) -> None:
    site.frame("acme", asked("a", 1))
    for tenant in ("acme", "limited", "late"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            site.scrape(tenant)
        assert caught.value.code == 401
    assert 'tenant="limited"' in site.scrape()


def test_there_are_none_unless_asked_for(any_redis: RedisProcess, models_folder: Path) -> None:
    server = ServerThread(Settings(redis_url=any_redis.url, models=models_folder))
    with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
        assert b"statecast_tenant_" not in response.read()
    server.stop()
