"""Models as callers see them."""

from statecast.service.registry import Model
from statecast.v1 import model_service_pb2 as pb


def from_model(model: Model) -> pb.Model:
    """The model as a caller sees it."""
    config = model.config
    return pb.Model(
        name=config.name,
        version=config.version,
        digest=model.digest,
        frequency=config.frequency,
        targets=config.targets,
        horizon=config.horizon,
        quantile_levels=config.quantile_levels,
        cell=config.cell,
        layers=config.layers,
        hidden_size=config.hidden_size,
        window=config.window,
        state_bytes=model.forecaster.layout.nbytes,
        covariates=config.covariates,
        categories=[pb.Category(name=each.name, values=each.values) for each in config.categories],
        classes=config.classes,
        adaptive=model.is_adaptive,
    )
