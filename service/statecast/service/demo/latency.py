"""Reads latency quantiles from a server's metrics."""

from collections.abc import Sequence

from statecast.service.scrape import Scrape, fetch

HISTOGRAM = "grpc_server_handling_seconds"


def read_latency(metrics_url: str, method: str, levels: Sequence[float]) -> tuple[int, list[float]]:
    """Return the number of calls of `method` that the server has handled, and their latency quantiles in seconds.

    Without a call, the quantiles are NaN.

    Raises:
        ScrapeError: The metrics cannot be read.
    """
    scrape = Scrape.parse(fetch(metrics_url))
    calls = scrape.total(f"{HISTOGRAM}_count", grpc_method=method)
    return int(calls), [scrape.quantile(HISTOGRAM, level, grpc_method=method) for level in levels]
