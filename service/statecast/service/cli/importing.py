"""The command `statecast models import`: makes a model of weights that were trained elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from statecast.model import ImportedConfig

SPREADS = tuple(f"{function}{what}" for what in ("variance", "deviation") for function in ("", "log_", "softplus_"))
MISSING_EXTRA = "needs the extra 'server' (docs/installation.md)"


class Names(click.ParamType[tuple[str, ...]]):
    """Names that are separated by commas."""

    name = "a,b,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names; an empty one is refused."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name between two commas.", param, ctx)
        return names


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers that are separated by commas: any number of them, or exactly `count`."""

    def __init__(self, name: str, count: int = 0) -> None:
        self.name, self._count = name, count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between them.", param, ctx)
        if self._count not in (0, len(numbers)):
            self.fail(f"{value!r} has {len(numbers)} numbers, expected {self._count}: {self.name}.", param, ctx)
        return numbers


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="The model's name.")
@click.option("--version", default="", help="The model's version; by default the next number.")
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    default="models",
    show_default=True,
    help="Folder of models, as for `statecast serve --models`.",
)
@click.option("--stateful", is_flag=True, help="The state was carried on from step to step.")
@click.option("--window", type=click.IntRange(min=1), help="Each forecast came from this many last inputs alone.")
@click.option("--targets", type=Names(), default=("value",), help="Names of the targets; by default value.")
@click.option("--covariates", type=Names(), default=(), help="Names of the covariates, known ahead.")
@click.option(
    "--inputs",
    type=Names(),
    help="The network's inputs in order: targets and covariates, NAME@LAG for an earlier value, and day_sin, day_cos, "
    "week_sin, ..., year_cos. By default the targets, then the covariates.",
)
@click.option(
    "--scale",
    type=Numbers("CENTRE,SCALE", 2),
    multiple=True,
    help="Centre and scale of the first target; repeat for each further target, then for each covariate. The network "
    "has seen (value - centre) / scale.",
)
@click.option(
    "--min-max",
    type=Numbers("LOW,HIGH", 2),
    multiple=True,
    help="Instead of --scale: the values that became the ends of --min-max-range; repeat likewise.",
)
@click.option("--min-max-range", type=Numbers("LOW,HIGH", 2), default=(0.0, 1.0), help="That range; by default 0,1.")
@click.option(
    "--causal",
    is_flag=True,
    help="The targets were scaled by the mean and standard deviation of all their values so far; --scale and --min-max "
    "are then those of the covariates alone.",
)
@click.option(
    "--per-window",
    type=click.Choice(("ddof0", "ddof1")),
    help="Each window's targets were scaled by their own mean and standard deviation, with that ddof; --scale and "
    "--min-max are then those of the covariates alone.",
)
@click.option("--log1p", is_flag=True, help="The targets' log1p was taken first.")
@click.option(
    "--difference",
    type=click.IntRange(min=1),
    help="The targets were replaced by their differences to this many steps before.",
)
@click.option("--frequency", default="", help="Time between two steps as a pandas alias; by default only order counts.")
@click.option(
    "--output",
    type=click.Choice(("point", "quantile", "normal", "class")),
    help="What the head tells: points, quantiles, mean and spread, or logits of classes.",
)
@click.option(
    "--spread",
    type=click.Choice(SPREADS),
    help="What `normal` tells beside the mean; by default log_variance.",
)
@click.option(
    "--quantile-levels", type=Numbers("LEVEL,..."), help="Levels of the head's quantiles, or to forecast of `normal`."
)
@click.option(
    "--order",
    type=Names(),
    help="Order of the head's outputs, the last one running fastest; by default horizon,target,number.",
)
@click.option(
    "--rollout",
    type=click.IntRange(min=1),
    help="Steps to forecast with a head of one step: each point is fed back.",
)
@click.option(
    "--missing",
    type=click.Choice(("refuse", "carry", "zero")),
    default="refuse",
    show_default=True,
    help="What becomes of a missing value: refused, the last one carried forward, or 0 after scaling.",
)
@click.option("--classes", type=Names(), default=(), help="The symbols by number from 0, of a network of symbols.")
@click.option(
    "--activations",
    type=Names(),
    help="Functions after each linear layer of the head, such as relu,identity; one more in front is applied to the "
    "recurrent layers' output.",
)
@click.option(
    "--nonlinearity",
    type=click.Choice(("tanh", "relu")),
    default="tanh",
    show_default=True,
    help="Function of a torch.nn.RNN.",
)
def import_model(file: Path, models: Path, **options: Any) -> None:
    """Make a model of the network in FILE: an LSTM, GRU or RNN and a head of linear layers.

    FILE is a .safetensors file, a state dict of torch.save, a .keras or an .onnx file; no code in it is executed.
    Sizes are read from the tensors. A running `statecast serve` with the same --models folder picks up the model.
    """
    try:
        from statecast.model import ImportedConfig, ModelError, import_weights, load_model
    except ImportError as error:
        raise click.ClickException(f"{MISSING_EXTRA} ({error})") from error
    given = {key: value for key, value in options.items() if value is not None}
    given["scale"], given["min_max"] = options["scale"] or None, options["min_max"] or None
    try:
        folder = import_weights(file, models=models, **given)
        config = load_model(folder).config
    except (ModelError, OSError) as error:
        raise click.ClickException(_with_options(str(error), options)) from error
    assert isinstance(config, ImportedConfig)
    click.echo(_summary(config))
    click.echo(f"{config.name} version {config.version} is in {folder}")


def _with_options(message: str, options: dict[str, Any]) -> str:
    """Return the message with the option's name instead of the argument's, if it begins with one."""
    field, colon, rest = message.partition(": ")
    return f"--{field.replace('_', '-')}{colon}{rest}" if field in options else message


def _summary(config: "ImportedConfig") -> str:
    """Return what was read from the tensors and the options."""
    mode = f"over the last {config.run_steps} inputs" if config.run_steps else "state carried"
    size = f"{config.hidden_size}" + (f" projected to {config.projection}" if config.projection else "")
    inputs = [f"{name}@{lag}" if lag else name for name, lag in zip(config.features, config.feature_lags, strict=True)]
    seen = ", ".join(inputs) if inputs else f"{len(config.classes)} classes"
    told = {"point": "points", "quantile": "quantiles", "normal": "normal quantiles", "class": "classes"}[config.output]
    return (
        f"{config.cell}, {config.layers} layers of {size}, {mode}; inputs: {seen}; {told}, {config.horizon} steps "
        f"ahead; missing values: {config.missing}"
    )
