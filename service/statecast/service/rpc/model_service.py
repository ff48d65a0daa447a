"""statecast.v1.ModelService: what is loaded."""

from statecast.service.registry import Registry
from statecast.service.rpc.methods import Context
from statecast.service.rpc.models import from_model
from statecast.service.rpc.scalars import to_model_name
from statecast.v1 import model_service_pb2 as pb
from statecast.v1.model_service_pb2_grpc import ModelServiceServicer


class ModelService(ModelServiceServicer):
    """Answers from the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        models = [from_model(model) for model in self._registry]
        return pb.ListModelsResponse(models=models, default_model=self._registry.default)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        name = to_model_name(request.name, "name")
        version = to_model_name(request.version, "version")
        return pb.GetModelResponse(model=from_model(self._registry.get(name, version)))
