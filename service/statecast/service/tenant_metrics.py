"""Metrics by tenant, for a bounded number of tenants; all others are counted together."""

from collections import Counter as Sums
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from statecast.v1.reasons import Reason

OTHER = "other"
"""The label of all tenants without one of their own, and of a tenant that has this name."""

ByTenant = Callable[[], Mapping[str, int]]
"""Returns a number for each tenant that has one; called in any thread."""


class TenantMetrics:
    """Counts by tenant. The first tenants that are seen get a label of their own, and keep it.

    Counting is for the event loop alone. A caller without a tenant, who was not admitted, is not counted.
    """

    def __init__(self, registry: CollectorRegistry, most: int) -> None:
        """Give at most so many tenants a label."""
        self._most = most
        what = "Requests of a tenant by status code; those in a frame or stream count one by one."
        self._requests = Counter("statecast_tenant_requests", what, ("tenant", "code"), registry=registry)
        what = "Time steps appended to a tenant's sessions."
        self._observations = Counter("statecast_tenant_observations", what, ("tenant",), registry=registry)
        what = "Requests and streams refused because their tenant has reached one of its limits."
        self._refused = Counter("statecast_tenant_quota_refusals", what, ("tenant",), registry=registry)
        self._codes: tuple[str, ...] = ()
        self._tenants: dict[str, _Counters] = {}
        self._other = self._counters(OTHER)
        self._registry = registry

    def start_at_zero(self, codes: Iterable[str]) -> None:
        """Create all counters of these status codes at 0, so that a first burst of errors shows as an increase."""
        self._codes = tuple(dict.fromkeys(codes))
        self._other = self._counters(OTHER)

    def name(self, tenants: Iterable[str]) -> None:
        """Give these tenants a label before others, as far as there is room."""
        for tenant in tenants:
            self._of(tenant)

    def watch(self, queue_bytes: ByTenant, streams: ByTenant) -> None:
        """Report memory of queued requests and open streams at the time of each scrape."""
        self._registry.register(_Gauges(self._tenants, queue_bytes, streams))

    def settled(self, tenant: str, code: str, reason: str, count: int = 1) -> None:
        """Count requests that ended with a code and a reason, which may be empty."""
        if tenant:
            self._of(tenant).count(code, count)
            self.refused(tenant, reason)

    def refused(self, tenant: str, reason: str) -> None:
        """Count a refusal, if its reason is one of the tenant's limits."""
        if reason == Reason.QUOTA_EXCEEDED and tenant:
            self._of(tenant).refused.inc()

    def appended(self, tenant: str, steps: int) -> None:
        """Count time steps that Redis has confirmed."""
        if steps:
            self._of(tenant).observations.inc(steps)

    def _of(self, tenant: str) -> "_Counters":
        found = self._tenants.get(tenant)
        if found is None:
            if len(self._tenants) >= self._most or tenant == OTHER:
                return self._other
            found = self._tenants[tenant] = self._counters(tenant)
        return found

    def _counters(self, label: str) -> "_Counters":
        return _Counters(
            label, self._requests, self._observations.labels(label), self._refused.labels(label), self._codes
        )


class _Counters:
    """The counters of one label, looked up once."""

    def __init__(
        self, label: str, requests: Counter, observations: Counter, refused: Counter, codes: Iterable[str]
    ) -> None:
        self._label, self._requests = label, requests
        self.observations, self.refused = observations, refused
        self._by_code = {code: requests.labels(label, code) for code in codes}

    def count(self, code: str, count: int) -> None:
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._requests.labels(self._label, code)
        counter.inc(count)


class _Gauges(Collector):
    """What stands at the time of a scrape, summed by label."""

    def __init__(self, named: Mapping[str, object], queue_bytes: ByTenant, streams: ByTenant) -> None:
        self._named = named
        self._gauges = (
            ("statecast_tenant_queue_bytes", "Memory of a tenant's queued requests and their answers.", queue_bytes),
            ("statecast_tenant_streams", "Open ForecastStream calls of a tenant.", streams),
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        named = list(self._named)
        for name, what, by_tenant in self._gauges:
            sums = Sums[str](dict.fromkeys((*named, OTHER), 0))
            for tenant, value in by_tenant().items():
                sums[tenant if tenant in sums else OTHER] += value
            family = GaugeMetricFamily(name, what, labels=["tenant"])
            for label, value in sums.items():
                family.add_metric([label], value)
            yield family
