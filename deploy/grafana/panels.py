"""The panels of the dashboard, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """A graph: title, unit, a sentence on how to read it, and pairs of legend and expression."""

    title: str
    unit: str
    text: str
    lines: Sequence[tuple[str, str]]


def _rate(metric: str, by: str = "", also: str = "") -> str:
    """Return the rate of a counter per second, summed, or summed by labels."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{@{also}}}[$__rate_interval]))"


def _quantile(quantile: float, metric: str, by: str = "", also: str = "") -> str:
    """Return a quantile of a histogram, by labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, also)})"


REQUESTS = "statecast_requests_total"
FAULTS = ',code=~"INTERNAL|UNAVAILABLE",reason!~"DRAINING|MODEL_LOADING"'
GRPC = '{@,envoy_http_conn_manager_prefix="grpc"}'
INTERVALS = "statecast_interval_observations_total"
ROWS: dict[str, Sequence[Panel]] = {
    "Requests": (
        Panel(
            "Requests by kind",
            "reqps",
            "Each attempt counts once, in whatever call it travels.",
            [("{{kind}}", _rate(REQUESTS, "kind"))],
        ),
        Panel(
            "Outcomes other than OK, by reason",
            "reqps",
            "docs/api.md explains each reason.",
            [("{{code}} {{reason}}", _rate(REQUESTS, "code, reason", ',code!="OK"'))],
        ),
        Panel(
            "Share that fails by the service's fault",
            "percentunit",
            "The alert is at 1 %.",
            [("share", f"{_rate(REQUESTS, also=FAULTS)} / {_rate(REQUESTS)}")],
        ),
        Panel(
            "Latency by kind, p99",
            "s",
            "From receiving a request to answering it.",
            [("{{kind}}", _quantile(0.99, "statecast_request_seconds", "kind"))],
        ),
        Panel(
            "Latency by phase, p99",
            "s",
            "queue is a request's wait; the others are a batch's.",
            [("{{phase}}", _quantile(0.99, "statecast_phase_seconds", "phase"))],
        ),
        Panel(
            "Latency of observe, forecast and step",
            "s",
            "The alert is at a p99 of 0.5 s.",
            [
                (f"p{100 * q:g}", _quantile(q, "statecast_request_seconds", also=',kind=~"observe|forecast|step"'))
                for q in (0.5, 0.9, 0.99)
            ],
        ),
    ),
    "Engine": (
        Panel(
            "Sessions in a batch",
            "short",
            "Batches grow with load.",
            [(f"p{100 * q:g}", _quantile(q, "statecast_batch_sessions")) for q in (0.5, 0.99)],
        ),
        Panel(
            "Utilisation of the engine",
            "percentunit",
            "Share of time in which its threads are busy. The alert is at 90 %.",
            [
                (
                    "{{instance}}",
                    f"{_rate('statecast_engine_busy_seconds_total', 'instance')} "
                    "/ sum by (instance) (statecast_engine_threads{@})",
                )
            ],
        ),
        Panel(
            "Event loop lag, p90",
            "s",
            "How late requests are read and answers written. The alert is at 0.2 s.",
            [("{{instance}}", _quantile(0.9, "statecast_event_loop_lag_seconds", "instance"))],
        ),
        Panel("Queue", "short", "Requests that wait for a batch.", [("{{instance}}", "statecast_queue_requests{@}")]),
        Panel(
            "Refused for lack of room or time",
            "reqps",
            "Nothing of a refused request was appended.",
            [("{{reason}}", f"{_rate('statecast_rejected_total', 'reason')} or vector(0)")],
        ),
        Panel(
            "Observations and forecasts",
            "ops",
            "Time steps appended, and forecasts made.",
            [
                ("observations", _rate("statecast_observations_total")),
                ("forecasts", _rate("statecast_forecasts_total")),
            ],
        ),
    ),
    "Sessions": (
        Panel(
            "Sessions opened",
            "ops",
            "By model and version.",
            [("{{model}} {{model_version}}", _rate("statecast_sessions_opened_total", "model, model_version"))],
        ),
        Panel(
            "Cache hits",
            "percentunit",
            "Share of a batch's sessions whose state was in memory.",
            [
                (
                    "hits",
                    f"{_rate('statecast_cache_hits_total')} / ({_rate('statecast_cache_hits_total')} "
                    f"+ {_rate('statecast_cache_misses_total')})",
                )
            ],
        ),
        Panel(
            "Cached sessions",
            "short",
            "Up to --cache-sessions on each server.",
            [("{{instance}}", "statecast_cached_sessions{@}")],
        ),
        Panel(
            "Sessions read from Redis",
            "ops",
            "By the model version that wrote them: an upgrade still meets these.",
            [("{{model}} {{model_version}}", _rate("statecast_sessions_read_total", "model, model_version"))],
        ),
        Panel(
            "Repeats and conflicts",
            "ops",
            "Conflicts mean that two servers work on one session at once.",
            [
                ("repeats answered", _rate("statecast_replayed_total")),
                ("conflicts", _rate("statecast_conflicts_total")),
            ],
        ),
        Panel(
            "Lost data",
            "short",
            "Anything but 0 is an alert.",
            [
                ("observations lost", "sum (increase(statecast_regressed_total{@}[$__rate_interval]))"),
                ("sessions missing", "sum (increase(statecast_sessions_missing_total{@}[$__rate_interval]))"),
            ],
        ),
        Panel(
            "Records refused",
            "short",
            "Records in Redis that could not be used. Anything but 0 is an alert.",
            [("{{reason}}", "sum by (reason) (increase(statecast_records_refused_total{@}[$__rate_interval]))")],
        ),
    ),
    "Forecasts": (
        Panel(
            "Values inside their interval",
            "percentunit",
            "Of the last hour; level 80 should be at 0.8.",
            [
                (
                    "{{model}} {{level}} %",
                    f'sum by (model, level) (increase({INTERVALS}{{@,inside="true"}}[1h])) '
                    f"/ sum by (model, level) (increase({INTERVALS}{{@}}[1h]))",
                )
            ],
        ),
        Panel(
            "Models loaded",
            "short",
            "Servers that have the version loaded.",
            [("{{model}} {{model_version}}", "count by (model, model_version) (statecast_model_info{@})")],
        ),
        Panel(
            "Models that cannot be loaded",
            "short",
            "The server's log says why.",
            [
                (
                    "{{model}} {{model_version}}",
                    "sum by (model, model_version) (statecast_model_unavailable{@}) or vector(0)",
                )
            ],
        ),
    ),
    "Redis": (
        Panel(
            "Redis answers",
            "bool",
            "False if the last probe failed, at most some seconds ago.",
            [("{{instance}}", "statecast_redis_up{@}")],
        ),
        Panel(
            "Time of Redis per batch, p99",
            "s",
            "load reads a batch's sessions, commit writes them.",
            [("{{operation}}", _quantile(0.99, "statecast_redis_seconds", "operation"))],
        ),
        Panel(
            "Requests that fail because of Redis",
            "reqps",
            "Nothing is appended by them.",
            [("{{reason}}", _rate(REQUESTS, "reason", ',reason=~"STORE_.*"'))],
        ),
        Panel(
            "Redis may lose sessions",
            "bool",
            "True if Redis evicts keys or keeps no append-only file.",
            [("{{instance}}", "statecast_redis_volatile{@}")],
        ),
    ),
    "Access": (
        Panel(
            "Refused credentials",
            "reqps",
            "Missing, wrong or expired. The log names their addresses.",
            [("{{reason}}", _rate(REQUESTS, "reason", ',code=~"UNAUTHENTICATED|PERMISSION_DENIED"'))],
        ),
        Panel(
            "Refused by limits of tenants",
            "reqps",
            "Includes addresses that have sent too many wrong credentials.",
            [("refused", _rate(REQUESTS, also=',reason="QUOTA_EXCEEDED"'))],
        ),
        Panel(
            "TLS certificate expires in",
            "d",
            "0 also stands for a server without TLS.",
            [("{{instance}}", "clamp_min(statecast_tls_certificate_expiry_seconds{@} - time(), 0) / 86400")],
        ),
    ),
    "Tenants, with --tenant-metrics": (
        Panel(
            "Requests by tenant",
            "reqps",
            "Tenants without a name of their own are together in other.",
            [("{{tenant}}", _rate("statecast_tenant_requests_total", "tenant"))],
        ),
        Panel(
            "Observations by tenant",
            "ops",
            "Time steps appended.",
            [("{{tenant}}", _rate("statecast_tenant_observations_total", "tenant"))],
        ),
        Panel(
            "Requests other than OK by tenant",
            "reqps",
            "By status code.",
            [("{{tenant}} {{code}}", _rate("statecast_tenant_requests_total", "tenant, code", ',code!="OK"'))],
        ),
        Panel(
            "Refused by limits, by tenant",
            "reqps",
            "Requests and streams beyond the limits in --tenant-limits.",
            [("{{tenant}}", _rate("statecast_tenant_quota_refusals_total", "tenant"))],
        ),
        Panel(
            "Memory in the queue by tenant",
            "bytes",
            "Queued requests and their answers.",
            [("{{tenant}}", "sum by (tenant) (statecast_tenant_queue_bytes{@})")],
        ),
        Panel(
            "Open streams by tenant",
            "short",
            "On all servers together.",
            [("{{tenant}}", "sum by (tenant) (statecast_tenant_streams{@})")],
        ),
    ),
    "Replicas": (
        Panel(
            "Servers that can be reached",
            "short",
            "The alert is at fewer than two.",
            [("servers", "count (up{@} == 1) or vector(0)")],
        ),
        Panel(
            "Memory",
            "bytes",
            "The limit of docker-compose.yml is 2 GiB.",
            [("{{instance}}", "process_resident_memory_bytes{@}")],
        ),
        Panel(
            "CPU", "short", "Cores in use.", [("{{instance}}", "rate(process_cpu_seconds_total{@}[$__rate_interval])")]
        ),
        Panel(
            "Connections (Envoy)",
            "short",
            "Should spread evenly within --max-connection-age-seconds.",
            [("{{instance}}", f"envoy_http_downstream_cx_active{GRPC}")],
        ),
        Panel(
            "Connections opened (Envoy)",
            "cps",
            "A storm of them means that callers reconnect for each call.",
            [("{{instance}}", f"rate(envoy_http_downstream_cx_total{GRPC}[$__rate_interval])")],
        ),
        Panel(
            "Traffic (Envoy)",
            "Bps",
            "Bytes received and sent.",
            [
                (name, f"sum (rate(envoy_http_downstream_cx_{which}_bytes_total{GRPC}[$__rate_interval]))")
                for name, which in (("received", "rx"), ("sent", "tx"))
            ],
        ),
        Panel(
            "Calls open (Envoy)",
            "short",
            "Streams and calls under way.",
            [("{{instance}}", f"envoy_http_downstream_rq_active{GRPC}")],
        ),
    ),
}
