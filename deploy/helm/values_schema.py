"""Writes values.schema.json, by which Helm refuses wrong values of the chart.

    .venv/bin/python -m deploy.helm.values_schema

The settings in it are those of the server. A test fails if the file is not what this module makes.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_type_hints

from statecast.service.settings import Settings

FILE = Path(__file__).with_name("statecast") / "values.schema.json"
OWNED = {
    "host", "port", "port_file", "metrics_host", "metrics_port", "redis_url", "redis_password_file", "redis_ca",
    "redis_cert", "redis_key", "data_dir", "models", "require_all_models", "tls_cert", "tls_key", "tls_client_ca",
    "api_keys", "tenant_limits", "drain_seconds", "grace_seconds", "kernel_cache",
}  # fmt: skip
"""Settings that the chart makes from other values, or must leave alone."""
QUANTITY = r"^[0-9]+([.][0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"
ANY_OBJECT: dict[str, Any] = {"type": "object"}


def schema() -> dict[str, Any]:
    """Return the schema of the values."""
    values = {
        "replicaCount": _integer(1, "Replicas, unless autoscaling is enabled."),
        "image": _object(
            repository=_text(1),
            tag=_text(),
            digest=_text(pattern="^(sha256:[0-9a-f]{64})?$"),
            pullPolicy=_pull_policy(),
        ),
        "imagePullSecrets": _list(_object(name=_text(1))),
        "nameOverride": _text(),
        "fullnameOverride": _text(),
        "redis": _redis(),
        "models": _models(),
        "tls": _object(secret=_text(), requireClientCertificate=_boolean(), serverName=_text()),
        "apiKeys": _object(secret=_text(), key=_text(1)),
        "tenantLimits": _object(configMap=_text(), key=_text(1)),
        "settings": _settings(),
        "shutdown": _object(
            preStopSeconds=_integer(0, "Time in which the pod leaves the Service's endpoints."),
            drainSeconds=_number(0, "--drain-seconds of the server."),
            graceSeconds=_number(0, "--grace-seconds of the server."),
        ),
        "startup": _object(maxSeconds=_integer(2, "Longest time until a server serves.")),
        "resources": _resources(),
        "tmp": _object(sizeLimit=_quantity()),
        "service": _object(
            type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port=_port(), annotations=ANY_OBJECT
        ),
        "podDisruptionBudget": _object(enabled=_boolean(), maxUnavailable=_number_or_percentage()),
        "autoscaling": _object(
            enabled=_boolean(),
            minReplicas=_integer(1),
            maxReplicas=_integer(1),
            queueMilliseconds=_integer(1, "Mean wait in the queue above which replicas are added."),
            engineBusyPercent={**_integer(1), "maximum": 99},
        ),
        "serviceMonitor": _object(
            enabled=_boolean(),
            interval=_text(pattern="^[0-9]+(ms|s|m)$"),
            labels=ANY_OBJECT,
            apiKeySecret=_key_of_secret(),
        ),
        "prometheusRule": _object(enabled=_boolean(), labels=ANY_OBJECT, runbookBase=_text()),
        "networkPolicy": _object(
            enabled=_boolean(),
            callers=_list(ANY_OBJECT),
            scrapers=_list(ANY_OBJECT),
            redisPeers=_list(ANY_OBJECT),
            redisPorts={**_list(_port()), "minItems": 1},
            extraEgress=_list(ANY_OBJECT),
        ),
        "serviceAccount": _object(annotations=ANY_OBJECT),
        **dict.fromkeys(("podAnnotations", "podLabels", "nodeSelector", "affinity", "global"), ANY_OBJECT),
        **{
            name: _list(ANY_OBJECT)
            for name in ("tolerations", "topologySpreadConstraints", "extraEnv", "extraVolumes", "extraVolumeMounts")
        },
        "priorityClassName": _text(),
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", **_object(**values)}


def _redis() -> dict[str, Any]:
    tls = _object(caSecret=_key_of_secret(), clientSecret=_text())
    return _object(url=_text(), urlSecret=_key_of_secret(), passwordSecret=_key_of_secret(), tls=tls)


def _models() -> dict[str, Any]:
    words = _list(_text())
    init = _object(image=_text(), command=words, args=words, env=_list(ANY_OBJECT), sizeLimit=_quantity())
    return _object(persistentVolumeClaim=_text(), init=init, requireAll=_boolean())


def _resources() -> dict[str, Any]:
    """The alert on memory needs a limit of it."""
    limits = {**ANY_OBJECT, "properties": {"memory": _quantity()}, "required": ["memory"]}
    return {**_object(requests=ANY_OBJECT, limits=limits, claims=_list(ANY_OBJECT)), "required": ["limits"]}


def _settings() -> dict[str, Any]:
    """Return the server's settings, with their ranges."""
    hints = get_type_hints(Settings)
    return _object(
        **{
            each.name: _setting(hints[each.name], each.metadata["click"], each.metadata["help"])
            for each in dataclasses.fields(Settings)
            if each.name not in OWNED
        }
    )


def _setting(hint: Any, options: dict[str, Any], text: str) -> dict[str, Any]:
    bounds = {word: options[key] for word, key in (("minimum", "min"), ("maximum", "max")) if key in options}
    choices = {"enum": list(options["choices"])} if "choices" in options else {}
    kind = {bool: "boolean", int: "integer", float: "number"}.get(hint, "string")
    return {"type": kind, **bounds, **choices, "description": text.split("  [default")[0]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _text(at_least: int = 0, pattern: str = "") -> dict[str, Any]:
    return {
        "type": "string",
        **({"minLength": at_least} if at_least else {}),
        **({"pattern": pattern} if pattern else {}),
    }


def _integer(at_least: int, text: str = "") -> dict[str, Any]:
    return {"type": "integer", "minimum": at_least, **({"description": text} if text else {})}


def _number(at_least: int, text: str) -> dict[str, Any]:
    return {"type": "number", "minimum": at_least, "description": text}


def _boolean() -> dict[str, Any]:
    return {"type": "boolean"}


def _port() -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": 65_535}


def _quantity() -> dict[str, Any]:
    return {"type": "string", "pattern": QUANTITY, "description": "Memory such as 2Gi."}


def _number_or_percentage() -> dict[str, Any]:
    return {"anyOf": [_integer(0), _text(pattern="^(100|[0-9]{1,2})%$")]}


def _pull_policy() -> dict[str, Any]:
    return {"enum": ["Always", "IfNotPresent", "Never"]}


def _key_of_secret() -> dict[str, Any]:
    return _object(name=_text(), key=_text(1))


def text() -> str:
    """Return the contents of the file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
