"""Implements statecast.v1.ModelService, which describes the loaded models."""

from statecast.service.errors import InvalidRequest, quoted
from statecast.service.models.policies import Policies
from statecast.service.models.registry import Model, Registry
from statecast.service.rpc.fields import to_model_name, to_model_reference
from statecast.service.rpc.methods import Context
from statecast.v1 import model_service_pb2 as pb
from statecast.v1.model_service_pb2_grpc import ModelServiceServicer


class ModelService(ModelServiceServicer):
    """Answers from the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # type: ignore[override]
        policies = self._registry.policies
        models = [_to_message(model, policies) for model in self._registry]
        return pb.ListModelsResponse(models=models, default_model=self._registry.default)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # type: ignore[override]
        version = to_model_name(request.version, "version")
        name, alias = to_model_reference(request.name, "", "name")
        registry = self._registry
        if alias and version:
            raise InvalidRequest("version", f"given together with alias {quoted(alias)}; leave out one of the two")
        model = registry.find(name or registry.default, version)  # a retired one is described, too
        return pb.GetModelResponse(model=_to_message(model or registry.get(request.name, version), registry.policies))


def _to_message(model: Model, policies: Policies) -> pb.Model:
    """Return the model's description for the wire."""
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
        aliases=policies.aliases_of(*model.labels),
        policy=policies.policy(config.name),
        retired=policies.is_retired(*model.labels),
    )
