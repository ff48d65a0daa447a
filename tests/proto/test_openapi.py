"""The OpenAPI document: valid, complete, and as a validator of others reads it."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from statecast.v1 import admin_service_pb2 as admin
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1 import model_service_pb2 as models

PAGE = Path(__file__).parents[2] / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(PAGE.read_text())


def operations() -> dict[str, dict[str, Any]]:
    return {operation["operationId"]: operation for verbs in DOCUMENT["paths"].values() for operation in verbs.values()}


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_unary_method_has_an_operation() -> None:
    services = [each for module in (pb, models, admin) for each in module.DESCRIPTOR.services_by_name.values()]
    unary = {each.name for service in services for each in service.methods if not each.server_streaming}
    assert set(operations()) == unary


def test_everything_is_described() -> None:
    for operation in operations().values():
        assert operation["description"]
        assert all(parameter["description"] for parameter in operation["parameters"])
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        for field, described in schema["properties"].items():
            assert described["description"], (name, field)


def test_a_version_can_stand_in_a_query() -> None:
    names = {parameter["name"] for parameter in operations()["CloseSession"]["parameters"]}
    assert names == {"session_id", "ifVersion.step", "ifVersion.tag"}


def test_a_missing_value_is_null_in_a_request() -> None:
    schema = {"$ref": "#/components/schemas/ForecastRequest", "components": DOCUMENT["components"]}
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"observations": {"values": [1, None, "NaN"]}, "horizon": 3})
    assert not validator.is_valid({"observations": {"values": ["warm"]}})
    assert not validator.is_valid({"horizn": 3})
