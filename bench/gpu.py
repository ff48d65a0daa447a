"""Cost of a batch's step and of a long catch-up on a device, compared with the device's floor: python bench/gpu.py.

The floor of a step is the larger of two times: the bytes that it must move divided by the device's bandwidth, and its
operations divided by the device's matrix rate. Both rates are measured in the same run. The floor counts only the
recurrent layers; a step is the model's whole `advance`. The recurrent layers' results are compared with float64 on the
CPU. The benchmark also runs on a CPU, with smaller sizes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
import torch
from torch import nn

from statecast.model import Forecaster, ModelConfig
from statecast.model.layers.cells import RecurrentLayers, RecurrentState

LAYERS, WARM_UPS = 2, 3
CATCH_UP_STEPS = 10_000


@dataclass(frozen=True)
class Device:
    """A device and its measured rates.

    Attributes:
        device: The torch device.
        bytes_per_second: Bytes read and written per second in a copy.
        operations_per_second: Multiplications and additions in float32 matrix products.
    """

    device: torch.device
    bytes_per_second: float
    operations_per_second: float

    def seconds(self, work: Callable[[], object], repeats: int) -> float:
        """Return the shortest time of `repeats` runs, in seconds."""
        for _ in range(WARM_UPS):
            work()
        taken = []
        for _ in range(repeats):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - started)
        return min(taken)

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def floor_seconds(self, layers: RecurrentLayers, batch: int) -> float:
        """Return the least time that a step of the recurrent layers can take."""
        weights = sum(weight.numel() for weight in layers.parameters())
        # Each layer's hidden and cell state is read and written.
        states = 2 * 2 * LAYERS * layers.hidden_size * batch
        moved = 4 * (weights + states) / self.bytes_per_second
        return max(moved, 2 * weights * batch / self.operations_per_second)


def measure(device: torch.device, megabytes: int, size: int) -> Device:
    """Measure a device: copy `megabytes`, and multiply two matrices of `size` x `size`."""
    nothing = Device(device, 1.0, 1.0)
    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.empty_like(source)
    copying = nothing.seconds(lambda: target.copy_(source), 5)
    left, right = torch.randn(2, size, size, device=device).unbind(0)
    multiplying = nothing.seconds(lambda: left @ right, 5)
    return Device(device, 2 * source.nbytes / copying, 2 * size**3 / multiplying)


def forecaster(hidden_size: int, device: torch.device) -> Forecaster:
    """Return a model of this hidden size without lags and checked steps."""
    torch.manual_seed(0)
    config = ModelConfig(
        name="gpu", version="1", layers=LAYERS, hidden_size=hidden_size, head_size=32, window=1, lags=(), multiples=1,
        half_lives=(2.0, 24.0), carry_half_lives=(1.0,), error_half_lives=(24.0,),
    )  # fmt: skip
    model = Forecaster(config).to(device)
    model.seal()
    return model


def largest_error(model: Forecaster, device: torch.device) -> float:
    """Return the recurrent layers' largest difference from float64 on the CPU, over 64 steps of 64 sequences."""
    layers = model.cell
    exact = nn.LSTM(layers.fused.input_size, layers.hidden_size, LAYERS, batch_first=True).double()
    exact.load_state_dict({name: weight.double().cpu() for name, weight in layers.fused.state_dict().items()})
    inputs = torch.randn(64, 64, layers.fused.input_size)
    nothing = torch.zeros(64, LAYERS, layers.hidden_size, device=device)
    memory, outputs = RecurrentState(nothing, nothing), []
    with torch.inference_mode():
        for step in range(inputs.shape[1]):
            output, memory = layers(inputs[:, step : step + 1].to(device), memory)
            outputs.append(output.cpu())
        expected, _ = exact(inputs.double())
    return float((torch.cat(outputs, dim=1).double() - expected).abs().max())


@torch.inference_mode()
def step_row(model: Forecaster, device: Device, batch: int, repeats: int) -> str:
    """Return a row of the table of steps."""
    state = model.initial_state(batch)
    values = torch.randn(batch, 1, 1, dtype=torch.float64, device=device.device)
    taken = device.seconds(lambda: model.advance(state, values), repeats)
    inputs = torch.randn(batch, 1, model.cell.fused.input_size, device=device.device)
    memory = RecurrentState(state["hidden"], state["cell"])
    cell = device.seconds(lambda: model.cell(inputs, memory), repeats)
    floor = device.floor_seconds(model.cell, batch)
    return (
        f"| {model.config.hidden_size} | {batch:,} | {1e6 * taken:,.0f} | {1e6 * cell:,.0f} | {1e6 * floor:,.0f} "
        f"| {cell / floor:.1f} | {taken / floor:.1f} |"
    )


@torch.inference_mode()
def catch_up_row(model: Forecaster, device: Device, steps: int) -> str:
    """Return a row of the table of catch-ups."""
    values = torch.randn(1, steps, 1, dtype=torch.float64, device=device.device)
    state = model.initial_state(1)
    taken = device.seconds(lambda: model.advance(state, values), 2)
    lstm = nn.LSTM(1, model.config.hidden_size, LAYERS, batch_first=True).to(device.device)
    inputs = torch.randn(1, steps, 1, device=device.device)
    alone = device.seconds(lambda: lstm(inputs), 2)
    return f"| {model.config.hidden_size} | {steps / taken:,.0f} | {steps / alone:,.0f} | {taken / alone:.2f} |"


@click.command()
@click.option("--device", "name", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--hidden", multiple=True, type=int, default=(128, 256, 512, 1024), show_default=True)
@click.option("--batch", multiple=True, type=int, default=(256, 1024, 4096, 16_384, 65_536), show_default=True)
@click.option("--steps", default=CATCH_UP_STEPS, show_default=True, help="Of the catch-up.")
@click.option("--repeats", default=10, show_default=True)
@click.option("--megabytes", default=1024, show_default=True, help="What is copied to measure the bandwidth.")
@click.option("--size", default=8192, show_default=True, help="Of the matrices that measure the rate.")
def main(
    name: str, hidden: Sequence[int], batch: Sequence[int], steps: int, repeats: int, megabytes: int, size: int
) -> None:
    """Print Markdown tables."""
    device = measure(torch.device(name), megabytes, size)
    named = torch.cuda.get_device_name(device.device) if device.device.type == "cuda" else "CPU"
    click.echo(
        f"{named}, torch {torch.__version__}: {device.bytes_per_second / 1e9:,.0f} GB/s, "
        f"{device.operations_per_second / 1e12:,.2f} Tflop/s in float32 matrix products\n"
    )
    click.echo("| hidden | batch | step us | recurrent layers us | floor us | layers / floor | step / floor |")
    click.echo("|---|---|---|---|---|---|---|")
    models = [forecaster(each, device.device) for each in hidden]
    for model in models:
        for each in batch:
            click.echo(step_row(model, device, each, repeats))
    click.echo("\n| hidden | catch-up, observations/s | torch.nn.LSTM alone | times as long |\n|---|---|---|---|")
    for model in models:
        click.echo(catch_up_row(model, device, steps))
    errors = ", ".join(f"{model.config.hidden_size}: {largest_error(model, device.device):.1e}" for model in models)
    click.echo(f"\nlargest difference from float64 on the CPU, by hidden size: {errors}")


if __name__ == "__main__":
    main()
