"""Every setting of `statecast serve`: its default, its unit, and a sentence; the command line is made from it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _option(default: Any, text: str, **click_options: Any) -> Any:
    return field(default=default, metadata={"help": text, "click": click_options})


def default_data_dir() -> Path:
    """Where the embedded Redis keeps its files unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "statecast"


@dataclass(frozen=True)
class Settings:
    """How a server runs. Each field is the option --name, the variable STATECAST_NAME and a key of the TOML file."""

    host: str = _option("127.0.0.1", "Address to serve gRPC on; 0.0.0.0 for all.")
    port: int = _option(50051, "Port to serve gRPC on; 0 for any free one.", min=0, max=65535)
    workers: int = _option(
        0, "How many processes speak gRPC for the engine's; 0 for none, it does so itself.", min=0, max=256
    )
    port_file: Path | None = _option(None, "File that holds the ports as JSON while the server serves.")
    metrics_host: str = _option("127.0.0.1", "Address to serve Prometheus metrics on; 0.0.0.0 for all.")
    metrics_port: int = _option(9464, "Port to serve Prometheus metrics on, under /metrics.", min=0, max=65535)
    redis_url: str = _option(
        "",
        "Redis to keep sessions in: redis://, rediss:// (TLS) or unix://; empty for an embedded one.",
    )
    redis_password_file: Path | None = _option(None, "File that holds the password of Redis, if redis-url has none.")
    data_dir: Path | None = _option(
        None, "Folder of the embedded Redis.  [default: statecast in the user's data folder]"
    )
    allow_volatile_redis: bool = _option(
        False, "Run on a Redis that evicts keys or keeps no append-only file: sessions may be lost."
    )
    redis_timeout_seconds: float = _option(2.0, "How long to wait for Redis to connect or answer.", min=0.01)
    namespace: str = _option("statecast", "What every key in Redis begins with.")
    models: Path | None = _option(None, "Folder of models, one in each NAME/VERSION/.")
    require_all_models: bool = _option(
        False, "Refuse to start unless every model in that folder can be loaded; else those that cannot are left out."
    )
    models_poll_seconds: float = _option(5.0, "How often to look for new models in that folder; 0 for never.", min=0.0)
    default_model: str = _option("base", "The model of sessions whose caller names none.")
    device: str = _option("auto", "Where models run; auto is cuda if there is one.", choices=("auto", "cpu", "cuda"))
    threads: int = _option(1, "CPU threads of one batch's computation.", min=1)
    engine_threads: int = _option(
        2, "How many batches may be under way at once, if more wait than one can hold.", min=1, max=64
    )
    session_ttl_seconds: int = _option(
        30 * 86_400,
        "How long a session is kept after its last observation.",
        min=1,
        max=315_360_000,
    )
    snapshot_every: int = _option(
        128,
        "After how many observations a session's record is rewritten in full; 1 writes every one.",
        min=1,
    )
    cache_sessions: int = _option(10_000, "How many sessions' states to keep in memory.", min=1)
    batch_sessions: int = _option(256, "How many sessions a batch may hold.", min=1)
    max_observations: int = _option(10_000, "How many time steps one request may append.", min=1)
    max_message_mib: int = _option(16, "Largest message to accept, in MiB.", min=1, max=1024)
    queue_requests: int = _option(8_192, "How many requests may wait before more are turned away.", min=1)
    queue_mib: int = _option(
        64, "How much memory the requests that wait and their answers may take, in MiB, about.", min=1, max=65_536
    )
    max_streams: int = _option(1_000, "How many ForecastStream calls may be open.", min=1)
    drain_seconds: float = _option(0.5, "At shutdown, how long to go on serving after reporting NOT_SERVING.", min=0.0)
    grace_seconds: float = _option(10.0, "At shutdown, how long to wait for calls in flight.", min=0.0)
    log_level: str = _option(
        "info",
        "The least important messages to log.",
        choices=("debug", "info", "warning", "error"),
    )
