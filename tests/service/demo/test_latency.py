import math

import pytest

from statecast.service.demo.latency import read_latency
from statecast.service.metrics import Metrics
from statecast.service.metrics_endpoint import MetricsEndpoint


def test_quantiles_come_out_of_the_histogram() -> None:
    metrics = Metrics()
    endpoint = MetricsEndpoint(metrics.registry, "127.0.0.1", 0)
    endpoint.start()
    histogram = metrics.rpc_seconds.labels("unary", "statecast.v1.ForecastService", "Forecast")
    for _ in range(98):
        histogram.observe(0.0015)
    for _ in range(2):
        histogram.observe(0.25)
    url = f"http://127.0.0.1:{endpoint.port}/metrics"
    calls, (p50, p99) = read_latency(url, "Forecast", (0.5, 0.99))
    assert calls == 100
    assert 0.001 <= p50 <= 0.0015
    assert p99 == pytest.approx(0.25, abs=0.06)
    nothing, (quantile,) = read_latency(url, "Nothing", (0.5,))
    assert nothing == 0
    assert math.isnan(quantile)
    endpoint.stop()
