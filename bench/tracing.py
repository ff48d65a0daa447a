"""What traces cost the server's CPU: python -m bench.tracing. Needs the extras `bench` and `tracing`."""

import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import click
import grpc
from bench.compare import loads
from bench.compare.loop import Pace
from bench.compare.models import plain_config, write_models
from bench.compare.names import PLAIN
from bench.compare.servers import serve
from bench.compare.sizes import FRAME_SESSIONS, NORMAL
from bench.compare.stages import loading

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SAMPLERS: Mapping[str, str | None] = {"off": None, "1 %": "0.01", "10 %": "0.1", "all": "1"}
"""The share of calls that the server samples, by its name; None without tracing."""


class _Discard(grpc.GenericRpcHandler):
    """Takes every export and keeps nothing."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        if handler_call_details.method != EXPORT:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda _, __: b"")


def _collect(tell: "Connection[int, int]") -> None:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[_Discard()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tell.send(port)
    server.wait_for_termination()


@contextmanager
def collector() -> Iterator[str]:
    """Run a collector in its own process, and yield its address."""
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=_collect, args=(tell,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{told.recv()}"
    finally:
        process.kill()


def environment(endpoint: str, share: str | None) -> dict[str, str]:
    """Return the variables of a server that samples this share of its calls."""
    if share is None:
        return {}
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **sampler}


def modes(target: str) -> dict[str, loads.Load]:
    """Return the loads, by the name of their mode."""
    return {
        "a call each, 64": loads.Unary(target, "many", 64, PLAIN),
        "frames": loads.Frames(target, "frames", NORMAL.groups, FRAME_SESSIONS, PLAIN),
    }


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0.1), default=8.0, show_default=True, help="Of each measurement.")
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="The best of them counts.")
@click.option("--transport", type=click.Choice(["envoy", "grpc"]), default="envoy", show_default=True)
def main(seconds: float, rounds: int, transport: str) -> None:
    """Print the server's CPU for a request, in us, by the share of sampled calls, as a Markdown table."""
    best: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory(prefix="statecast-tracing-") as folder, collector() as endpoint:
        models = write_models(Path(folder), plain_config())
        for name, share in [*SAMPLERS.items()] * rounds:
            variables = environment(endpoint, share)
            with serve(models, PLAIN, transport, environment=variables) as server, loading() as pool:
                for mode, load in modes(server.target).items():
                    measured = pool.submit(loads.run, load, Pace(seconds / 4, seconds), server.watched).result()
                    best[mode, name] = min(best.get((mode, name), measured.server_us), measured.server_us)
    click.echo("| us of CPU for a request, sampled calls | " + " | ".join(SAMPLERS) + " |")
    click.echo("|---|" + "---|" * len(SAMPLERS))
    for mode in dict.fromkeys(mode for mode, _ in best):
        click.echo(f"| {mode} | " + " | ".join(f"{best[mode, name]:.1f}" for name in SAMPLERS) + " |")


if __name__ == "__main__":
    main()
