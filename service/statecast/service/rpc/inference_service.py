"""Implements inference.GRPCInferenceService, the Open Inference Protocol, for programs written for Triton."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from statecast.oip import inference_service_pb2 as pb
from statecast.oip.inference_service_pb2_grpc import GRPCInferenceServiceServicer
from statecast.service.errors import NotFound, ServiceError, Unavailable, Unsupported
from statecast.service.models.registry import Model, Registry
from statecast.service.rpc import inference_models
from statecast.service.rpc.engine_client import Call, EngineClient
from statecast.service.rpc.fields import to_model_name
from statecast.service.rpc.inference_answers import response
from statecast.service.rpc.inference_requests import cost_of, in_its_terms, to_asked
from statecast.service.rpc.inference_streams import Inferences, tell_of_sequence
from statecast.service.rpc.methods import Context, StreamContext
from statecast.service.rpc.streams import Streams
from statecast.service.rpc.tensor_names import TensorNames

EXTENSIONS = ("sequence", "model_configuration", "parameters")
_METRICS = "see the Prometheus metrics, under /metrics of the metrics port"
_FOLDER = "the server follows its models folder: add or remove models there"
_LIST = "call statecast.v1.ModelService/ListModels"
_MEMORY = "this server shares no memory with its callers; send the elements of tensors in the request"
_LOGS = "the server's operator sets what is logged, with --log-level"
_TRACES = "the caller samples traces, with the header traceparent"


def _unsupported(instead: str) -> Callable[..., Awaitable[Any]]:
    """Return a method that says what to use in its place."""

    async def refuse(service: object, request: object, context: Context) -> None:
        raise Unsupported(f"this method of the Open Inference Protocol is not supported; {instead}")

    return refuse


class InferenceService(GRPCInferenceServiceServicer):
    """Answers from the engine behind `engine_client`; a sequence of a model is a session."""

    def __init__(
        self,
        engine_client: EngineClient,
        streams: Streams,
        registry: Registry,
        names: TensorNames,
        is_ready: Callable[[], bool],
        session_ttl_seconds: int,
    ) -> None:
        self._engine_client, self._streams = engine_client, streams
        self._registry, self._names = registry, names
        self._is_ready, self._idle_microseconds = is_ready, session_ttl_seconds * 1_000_000

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:  # type: ignore[override]
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:  # type: ignore[override]
        return pb.ServerReadyResponse(ready=self._is_ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:  # type: ignore[override]
        try:
            self._model(request)
        except (NotFound, Unavailable):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._is_ready())

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:  # type: ignore[override]
        return pb.ServerMetadataResponse(name="statecast", version=version("statecast"), extensions=EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:  # type: ignore[override]
        model = self._model(request)
        loaded = list(self._registry.versions(model.config.name))[::-1]
        versions = [request.version] if request.version else loaded
        return inference_models.metadata(model, versions, self._names)

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:  # type: ignore[override]
        model = self._model(request)
        config = inference_models.configuration(model, self._names, self._idle_microseconds)
        return pb.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:  # type: ignore[override]
        call = Call.of(context)
        self._engine_client.check(call, cost_of(request))
        asked = to_asked(request, call, self._registry, self._names)
        context.asked = asked.request
        try:
            outcome = await self._engine_client.ask(asked.request, call)
        except ServiceError as error:
            raise in_its_terms(error, asked) from error
        tell_of_sequence(asked.request, outcome, context)
        return response(asked.wanted, outcome)

    async def ModelStreamInfer(  # type: ignore[override]  # a coroutine that reads and writes by itself
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: StreamContext
    ) -> None:
        await self._streams.serve(context, partial(Inferences, self._engine_client, self._registry, self._names))

    ModelStatistics = _unsupported(_METRICS)
    RepositoryIndex = _unsupported(_LIST)
    RepositoryModelLoad = _unsupported(_FOLDER)
    RepositoryModelUnload = _unsupported(_FOLDER)
    SystemSharedMemoryStatus = _unsupported(_MEMORY)
    SystemSharedMemoryRegister = _unsupported(_MEMORY)
    SystemSharedMemoryUnregister = _unsupported(_MEMORY)
    CudaSharedMemoryStatus = _unsupported(_MEMORY)
    CudaSharedMemoryRegister = _unsupported(_MEMORY)
    CudaSharedMemoryUnregister = _unsupported(_MEMORY)
    TraceSetting = _unsupported(_TRACES)
    LogSettings = _unsupported(_LOGS)

    def _model(self, request: pb.ModelReadyRequest | pb.ModelMetadataRequest | pb.ModelConfigRequest) -> Model:
        name, wanted = to_model_name(request.name, "name"), to_model_name(request.version, "version")
        return self._registry.get(name, wanted)
