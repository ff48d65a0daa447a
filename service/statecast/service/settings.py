"""Settings of `statecast serve`: default, range and help text of each; the command line is built from them."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from statecast.service.log import FORMATS


def _option(default: Any, text: str, **click_options: Any) -> Any:
    return field(default=default, metadata={"help": text, "click": click_options})


def default_data_dir() -> Path:
    """Return the default folder of the embedded Redis."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "statecast"


@dataclass(frozen=True)
class Settings:
    """Settings of a server. Each is the option --name, the variable STATECAST_NAME and a key of the TOML file."""

    host: str = _option("127.0.0.1", "gRPC listen address; 0.0.0.0 for all interfaces.")
    port: int = _option(50051, "gRPC port; 0 for a free one.", min=0, max=65535)
    transport: str = _option(
        "auto",
        "What speaks gRPC: Envoy, or grpcio, which costs more per call; auto is envoy where it can be used.",
        choices=("auto", "envoy", "grpc"),
    )
    envoy_threads: int = _option(1, "Envoy's threads for connections.", min=1, max=64)
    envoy_config: Path | None = _option(
        None, "File to start Envoy with, YAML or JSON, instead of what --print-envoy-config prints."
    )
    max_connections: int = _option(10_000, "Most connections at once (Envoy only).", min=1)
    max_concurrent_calls: int = _option(20_000, "Most calls at once on one connection (Envoy only).", min=1)
    max_connection_age_seconds: float = _option(
        0.0, "Age at which a connection is asked to reconnect; 0 for none (Envoy only).", min=0.0
    )
    web_origins: str = _option(
        "",
        "Origins of web pages that may call by gRPC-Web or HTTP/JSON, separated by commas; * for any (Envoy only).",
    )
    tls_cert: Path | None = _option(None, "PEM file with the server's certificate, then those that vouch for it.")
    tls_key: Path | None = _option(None, "PEM file with the private key of that certificate.")
    tls_client_ca: Path | None = _option(
        None, "PEM file with the authorities whose certificates callers must show (mutual TLS)."
    )
    tls_subjects: Path | None = _option(
        None, "TOML file with the tenant and role of each subject of such a certificate."
    )
    api_keys: Path | None = _option(None, "File of API keys, as statecast keys create makes it.")
    jwt_keys: str = _option("", "JWKS with the keys that sign tokens (JWT): a file or an https URL.")
    jwt_issuer: str = _option("", "Issuer (iss) that tokens must have.")
    jwt_audience: str = _option("", "Audience (aud) that tokens must have.")
    jwt_tenant_claim: str = _option("tenant", "Claim with the caller's tenant; dots lead into nested claims.")
    jwt_role_claim: str = _option("role", "Claim with the caller's role (read, write, admin), or a list that holds it.")
    tenant_limits: Path | None = _option(None, "TOML file with limits for each tenant in this process.")
    tenant_metrics: int = _option(
        0,
        "Most tenants with metrics of their own; all others are counted as one. 0 for none.",
        min=0,
        max=1000,
    )
    max_wrong_credentials: int = _option(
        20, "Wrong credentials per minute from one address, before it may try no others; 0 for no limit.", min=0
    )
    insecure: bool = _option(
        False, "Do not warn of an address beyond this machine without TLS and authentication: the network is private."
    )
    port_file: Path | None = _option(None, "File with the ports as JSON, present while the server serves.")
    metrics_host: str = _option("127.0.0.1", "Metrics listen address; 0.0.0.0 for all interfaces.")
    metrics_port: int = _option(
        9464, "Port of the Prometheus metrics, under /metrics; 0 for a free one.", min=0, max=65535
    )
    page: bool = _option(False, "Serve a page to look at sessions and models, under /page/ at the port of the metrics.")
    page_viewers: int = _option(
        32, "Most viewers of sessions on that page at once; each has a thread and a connection.", min=1, max=48
    )
    redis_url: str = _option(
        "",
        "Redis that stores the sessions: redis://, rediss:// (TLS) or unix://, with +cluster or +sentinel before the "
        "colon for those; empty for an embedded one.",
    )
    redis_password_file: Path | None = _option(None, "File with the Redis password, if redis-url has none.")
    redis_ca: Path | None = _option(None, "PEM file with the authorities that vouch for Redis (TLS).")
    redis_cert: Path | None = _option(None, "PEM file with the certificate that the server shows to Redis.")
    redis_key: Path | None = _option(None, "PEM file with the private key of that certificate.")
    data_dir: Path | None = _option(
        None, "Folder of the embedded Redis.  [default: statecast in the user's data folder]"
    )
    allow_volatile_redis: bool = _option(
        False, "Accept a Redis that evicts keys or has no append-only file: sessions may be lost."
    )
    redis_timeout_seconds: float = _option(2.0, "Timeout for connecting to Redis and for its answers.", min=0.01)
    namespace: str = _option("statecast", "Prefix of every Redis key.")
    models: Path | None = _option(None, "Folder of models: NAME/VERSION/.")
    require_all_models: bool = _option(
        False, "Refuse to start unless every model in that folder loads; otherwise broken ones are skipped."
    )
    models_poll_seconds: float = _option(
        5.0, "Interval between checks of that folder for new models; 0 for none.", min=0.0
    )
    default_model: str = _option("base", "Model for sessions that name none.")
    tensor_names: Path | None = _option(
        None, "TOML file with other names of each model's tensors, for clients of the Open Inference Protocol."
    )
    device: str = _option(
        "auto", "Device that models run on; auto is cuda if available.", choices=("auto", "cpu", "cuda")
    )
    threads: int = _option(1, "CPU threads per batch.", min=1)
    kernels: str = _option(
        "auto",
        "Whether models on the CPU use compiled kernels: auto once they are compiled, on to wait for that, or off.",
        choices=("auto", "on", "off"),
    )
    kernel_cache: Path | None = _option(
        None, "Folder of compiled kernels, writable by no one else.  [default: statecast/kernels in the user's cache]"
    )
    engine_threads: int = _option(
        2, "Batches in progress at once, if more requests wait than one batch holds.", min=1, max=64
    )
    session_ttl_seconds: int = _option(
        30 * 86_400,
        "Time a session is kept after its last observation.",
        min=1,
        max=315_360_000,
    )
    snapshot_every: int = _option(
        128,
        "Observations between full rewrites of a session's record; 1 rewrites it every time.",
        min=1,
    )
    cache_sessions: int = _option(10_000, "Sessions whose state is cached in memory.", min=1)
    batch_sessions: int = _option(256, "Most sessions in a batch.", min=1)
    max_observations: int = _option(10_000, "Most time steps one request may append.", min=1)
    max_message_mib: int = _option(16, "Largest accepted message, in MiB.", min=1, max=1024)
    queue_requests: int = _option(8_192, "Most requests in the queue; more are refused.", min=1)
    queue_mib: int = _option(64, "Approximate memory for queued requests and their answers, in MiB.", min=1, max=65_536)
    max_streams: int = _option(1_000, "Most open ForecastStream and ModelStreamInfer calls.", min=1)
    drain_seconds: float = _option(0.5, "At shutdown, time to keep serving after reporting NOT_SERVING.", min=0.0)
    grace_seconds: float = _option(10.0, "At shutdown, time to wait for calls in flight.", min=0.0)
    log_level: str = _option(
        "info",
        "Lowest level of logged messages.",
        choices=("debug", "info", "warning", "error"),
    )
    log_format: str = _option(
        "text", "Format of the log: text for people, or json, an object a line, for machines.", choices=FORMATS
    )
    slow_request_seconds: float = _option(
        0.0, "Seconds from which a request is logged as slow, with its time in the queue; 0 for none.", min=0.0
    )
