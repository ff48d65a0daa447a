"""Paths of the annotations: a colon is part of a name unless a method's word follows it."""

import pytest
from support.asgi import echo

from statecast.service.rpc.methods import Method
from statecast.service.transport.http_json.routes import NoRoute, Routes
from statecast.v1 import admin_service_pb2, forecast_service_pb2, model_service_pb2

SERVICES = [
    service
    for module in (admin_service_pb2, forecast_service_pb2, model_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {
    f"/{service.full_name}/{method.name}": Method(
        method.server_streaming or method.client_streaming, lambda data: data, echo
    )
    for service in SERVICES
    for method in service.methods
}


@pytest.mark.parametrize(
    ("verb", "path", "name", "variables"),
    [
        ("POST", "/v1/sessions/a:forecast", "Forecast", {"session_id": "a"}),
        ("POST", "/v1/sessions/a:b:open", "OpenSession", {"session_id": "a:b"}),
        ("POST", "/v1/sessions/a:fork", "ForkSession", {"source_session_id": "a"}),
        ("POST", "/v1/sessions/a:upgrade", "UpgradeSession", {"session_id": "a"}),
        ("POST", "/v1/models/base:retire", "RetireModel", {"name": "base"}),
        ("POST", "/v1/sessions:forecastMany", "ForecastMany", {}),
        ("GET", "/v1/sessions", "ListSessions", {}),
        ("GET", "/v1/sessions/site:a", "GetSession", {"session_id": "site:a"}),
        ("GET", "/v1/sessions/a%3Aopen", "GetSession", {"session_id": "a%3Aopen"}),
        ("DELETE", "/v1/sessions/a%2Fb", "CloseSession", {"session_id": "a%2Fb"}),
        ("GET", "/v1/models", "ListModels", {}),
        ("GET", "/v1/models/base", "GetModel", {"name": "base"}),
    ],
)
def test_a_path_leads_to_its_method(verb: str, path: str, name: str, variables: dict[str, str]) -> None:
    asked = Routes(METHODS).find(verb, path, b"")
    assert asked.route.request.DESCRIPTOR.name == f"{name}Request"
    assert asked.route.response.DESCRIPTOR.name == f"{name}Response"
    assert asked.variables == variables


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("POST", "/v1/sessions/a", ("GET", "DELETE")),
        ("GET", "/v1/sessions/a:open", ("POST",)),
        ("PUT", "/v1/models", ("GET",)),
        ("GET", "/v1", ()),
        ("GET", "/v1/models/base/2", ()),
        ("GET", "/statecast.v1.ModelService/ListModels", ()),
        ("GET", "//v1/models", ()),
    ],
)
def test_other_paths_lead_nowhere(verb: str, path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(NoRoute) as caught:
        Routes(METHODS).find(verb, path, b"")
    assert caught.value.allowed == allowed
    assert "GET /v1/sessions/{session_id}" in str(caught.value)


def test_every_unary_method_of_the_services_has_a_path() -> None:
    """Streams have none, and neither has what is not ours."""
    unary = [path for path, method in METHODS.items() if not method.is_stream]
    assert len(unary) == 13
    for path, method in METHODS.items():
        try:
            Routes({path: method}).find("GET", "/nothing", b"")
        except NoRoute as error:
            assert ("{" in str(error) or "/v1/" in str(error)) == (path in unary)  # noqa: PT017
