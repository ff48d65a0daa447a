"""Reads latency quantiles from a Prometheus histogram."""

import math
import urllib.request
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

HISTOGRAM = "grpc_server_handling_seconds"


def read_latency(metrics_url: str, method: str, levels: Sequence[float]) -> tuple[int, list[float]]:
    """Return the number of calls of `method` that the server has handled, and their latency quantiles in seconds."""
    with urllib.request.urlopen(metrics_url, timeout=5) as response:
        text = response.read().decode()
    buckets = sorted(
        (float(sample.labels["le"]), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{HISTOGRAM}_bucket" and sample.labels["grpc_method"] == method
    )
    return int(buckets[-1][1]) if buckets else 0, [_quantile(buckets, level) for level in levels]


def _quantile(buckets: list[tuple[float, float]], level: float) -> float:
    """Return the quantile as Prometheus' histogram_quantile does: linear within its bucket."""
    rank = level * buckets[-1][1] if buckets else 0.0
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= rank and count > below:
            return lower if math.isinf(upper) else lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return math.nan
