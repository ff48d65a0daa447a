"""Helm makes of the chart what Kubernetes accepts and the server understands, and refuses wrong values."""

import math
import re
import tarfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml
from deploy.charts import (
    CHART,
    NAME,
    NAMESPACE,
    PEER,
    RELEASE,
    TLS_OF_REDIS,
    VALUES,
    Document,
    environment,
    helm,
    needs_helm,
    of_kind,
    pod,
    render,
    server,
)
from deploy.files import ROOT, RULES, compose
from deploy.helm import values_schema

from statecast.service.cli.main import main
from statecast.service.envoy.launcher import ENGINE_SECONDS
from statecast.service.settings import Settings

pytestmark = needs_helm
OLDEST, NEWEST = "1.27", "1.37"
"""The oldest that the chart allows, and the newest with schemas."""
WRONG: dict[str, Document] = {
    "/replicaCount': got string, want integer": {"replicaCount": "two"},
    "'replicas' not allowed": {"replicas": 2},
    "'engine_thread' not allowed": {"settings": {"engine_thread": 2}},
    "/settings/engine_threads': minimum: got 0, want 1": {"settings": {"engine_threads": 0}},
    "/settings/kernels': value must be one of": {"settings": {"kernels": "yes"}},
    "'port' not allowed": {"settings": {"port": 1}},
    "/resources/limits': missing property 'memory'": {"resources": {"limits": {"memory": None, "cpu": "1"}}},
    'redis.url: "redis:6379" is not the URL of a Redis; write redis://': {"redis": {"url": "redis:6379"}},
    "redis.url: holds a password": {"redis": {"url": "redis://:secret@redis:6379/0"}},
    "redis.tls: is of no use": {"redis": {"tls": TLS_OF_REDIS}},
    "redis.passwordSecret: the URL": {"redis": {"urlSecret": {"name": "a"}, "passwordSecret": {"name": "b"}}},
    "choose one": {"models": {"persistentVolumeClaim": "a", "init": {"image": "b"}}},
    "needs models.init.image": {"models": {"init": {"command": ["true"]}}},
    "requireClientCertificate: needs tls.secret": {"tls": {"requireClientCertificate": True}},
    "tls.serverName: is empty": {"tls": {"secret": "a"}, "serviceMonitor": {"enabled": True}},
    "serviceMonitor.apiKeySecret.name: is empty": {"apiKeys": {"secret": "a"}, "serviceMonitor": {"enabled": True}},
    "minReplicas: 9 is more than maxReplicas 8": {"autoscaling": {"enabled": True, "minReplicas": 9}},
}


def pods(documents: list[Document]) -> list[Document]:
    """Return the specifications of all pods: the servers' and that of `helm test`."""
    return [pod(documents), of_kind(documents, "Pod")["spec"]]


@pytest.mark.parametrize("name", VALUES)
def test_helm_finds_nothing_to_complain_of(name: str) -> None:
    done = helm("lint", "--strict", str(CHART), values=VALUES[name])
    assert done.returncode == 0, done.stdout + done.stderr


def test_helm_refuses_wrong_values_and_says_why() -> None:
    for said, values in WRONG.items():
        done = helm("template", RELEASE, str(CHART), values=values)
        assert done.returncode != 0, said
        assert said in done.stderr


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="needs kubernetes-validate")
def test_kubernetes_accepts_the_documents(rendered: dict[str, list[Document]]) -> None:
    import kubernetes_validate

    of_operator = ("ServiceMonitor", "PrometheusRule")  # which brings their schemas
    documents = [each for each in rendered["everything"] if each["kind"] not in of_operator]
    assert len(documents) == 8
    for document in documents:
        kubernetes_validate.validate(document, NEWEST, strict=True)
    for kind in ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"):  # the others have not changed
        kubernetes_validate.validate(of_kind(documents, kind), OLDEST, strict=True)
    for name in ("defaults", "other sources"):
        kubernetes_validate.validate(of_kind(rendered[name], "Deployment"), NEWEST, strict=True)


def test_the_schema_is_that_of_the_server() -> None:
    assert values_schema.FILE.read_text() == values_schema.text(), "run python -m deploy.helm.values_schema"


def test_every_value_has_a_place_in_the_schema() -> None:
    def check(values: Document, schema: Document, at: str) -> None:
        if "properties" in schema and not schema.get("additionalProperties", True):
            for name, value in values.items():
                assert name in schema["properties"], at
                if isinstance(value, dict):
                    check(value, schema["properties"][name], f"{at}/{name}")

    check(yaml.safe_load((CHART / "values.yaml").read_text()), values_schema.schema(), "")


def test_the_versions_are_those_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert chart["appVersion"] == version
    assert OLDEST in chart["kubeVersion"]


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_locked_down(name: str, rendered: dict[str, list[Document]]) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    for spec in pods(rendered[name]):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert (security["runAsUser"], security["runAsGroup"]) == (int(user[1]), int(user[2]))
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", VALUES)
def test_every_file_that_is_named_lies_in_a_volume(name: str, rendered: dict[str, list[Document]]) -> None:
    for spec in pods(rendered[name]):
        volumes = {each["name"] for each in spec.get("volumes", ())}
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes
    mounted = {
        f"{mount['mountPath']}/{path}"
        for mount in server(rendered[name])["volumeMounts"]
        for volume in pod(rendered[name])["volumes"]
        if volume["name"] == mount["name"]
        for path in files_of(volume)
    }
    values = environment(rendered[name]).values()
    named = {path for value in values for path in re.findall(r"(?:/etc|/run)(?:/[\w.-]+)+", value)}
    assert named == mounted


def files_of(volume: Document) -> list[str]:
    """Return the names of a volume's files."""
    sources = volume.get("projected", {}).get("sources", [volume])
    return [
        item["path"]
        for source in sources
        for kind in ("secret", "configMap")
        for item in source.get(kind, {}).get("items", ())
    ]


@pytest.mark.parametrize("name", VALUES)
def test_a_server_has_time_to_leave(name: str, rendered: dict[str, list[Document]]) -> None:
    variables = environment(rendered[name])
    command = server(rendered[name])["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    drain, grace = (float(variables[f"STATECAST_{each}_SECONDS"]) for each in ("DRAIN", "GRACE"))
    least = float(command[1]) + drain + grace + ENGINE_SECONDS
    assert least < pod(rendered[name])["terminationGracePeriodSeconds"] <= math.ceil(least) + 5
    # A balancer of its own that asks as often as the kubelet does notices before the server stops taking calls.
    probe = server(rendered[name])["readinessProbe"]
    assert float(command[1]) + drain >= probe["failureThreshold"] * (probe["periodSeconds"] + probe["timeoutSeconds"])


def test_the_server_understands_its_variables(
    rendered: dict[str, list[Document]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, documents in rendered.items():
        variables = {key: value for key, value in environment(documents).items() if key.startswith("STATECAST_")}
        with monkeypatch.context() as patch:
            for key, value in variables.items():
                patch.setenv(key, value)
            patch.delenv("STATECAST_REDIS_URL_FILE", raising=False)
            serve = main.commands["serve"]
            settings = serve.make_context("serve", [], parent=click.Context(main)).params
        for key in variables.keys() - {"STATECAST_REDIS_URL_FILE"}:
            assert key.removeprefix("STATECAST_").lower() in Settings.__dataclass_fields__, key
        for key, value in VALUES[name].get("settings", {}).items():
            assert settings[key] == value
        assert settings["require_all_models"] is True


def test_paths_ports_and_limits_are_those_of_docker_compose(rendered: dict[str, list[Document]]) -> None:
    of_tls = compose("docker-compose.tls.yml")["services"]["server-a"]["environment"]
    own = compose()["services"]["server-a"]
    theirs = {**own["environment"], **of_tls}
    ours = environment(rendered["everything"])
    for key in (
        "REDIS_PASSWORD_FILE",
        "MODELS",
        "REQUIRE_ALL_MODELS",
        "TLS_CERT",
        "TLS_KEY",
        "API_KEYS",
        "TENANT_LIMITS",
    ):
        assert ours[f"STATECAST_{key}"] == theirs[f"STATECAST_{key}"]
    defaults = environment(rendered["defaults"])
    for key in ("REDIS_URL", "DRAIN_SECONDS", "MAX_CONNECTION_AGE_SECONDS"):
        assert defaults[f"STATECAST_{key}"] == str(own["environment"][f"STATECAST_{key}"])
    memory = server(rendered["defaults"])["resources"]["limits"]["memory"]
    assert memory.removesuffix("i").lower() == own["mem_limit"]
    assert float(server(rendered["defaults"])["resources"]["requests"]["cpu"]) == Settings().engine_threads
    ports = {each["name"]: each["containerPort"] for each in server(rendered["everything"])["ports"]}
    assert ports == {"grpc": Settings().port, "metrics": Settings().metrics_port}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"EXPOSE {ports['grpc']} {ports['metrics']}" in dockerfile
    cache = re.search(r"STATECAST_KERNEL_CACHE=(\S+)", dockerfile)
    assert cache
    (tmp,) = (each for each in pod(rendered["defaults"])["volumes"] if each["name"] == "tmp")
    assert cache[1].startswith("/tmp/")
    assert tmp["emptyDir"]["medium"] == "Memory"


def test_services_lead_to_the_servers_alone(rendered: dict[str, list[Document]]) -> None:
    for documents in rendered.values():
        deployment = of_kind(documents, "Deployment")["spec"]
        labels = deployment["template"]["metadata"]["labels"].items()
        tester = of_kind(documents, "Pod")["metadata"]["labels"].items()
        services = [each for each in documents if each["kind"] == "Service"]
        selectors = [each["spec"]["selector"] for each in services]
        selectors += [deployment["selector"]["matchLabels"]]
        selectors += [of_kind(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
        for selector in selectors:
            assert selector.items() <= labels
            assert not selector.items() <= tester
        ports = {each["name"] for each in server(documents)["ports"]}
        assert {port["targetPort"] for each in services for port in each["spec"]["ports"]} == ports
        assert [each["spec"].get("clusterIP") for each in services] == [None, "None"]


def test_the_monitor_finds_one_service_and_reads_as_the_server_wants(rendered: dict[str, list[Document]]) -> None:
    documents = rendered["everything"]
    monitor = of_kind(documents, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    (service,) = (
        each for each in documents if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    )
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    assert endpoint["scheme"] == "https"
    assert endpoint["authorization"]["credentials"]["name"] == "metrics"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert server(documents)[probe]["httpGet"]["scheme"] == "HTTPS"
        assert server(rendered["defaults"])[probe]["httpGet"]["scheme"] == "HTTP"


def test_the_network_policy_opens_what_is_needed(rendered: dict[str, list[Document]]) -> None:
    policy = of_kind(rendered["everything"], "NetworkPolicy")["spec"]
    calls, scrapes = policy["ingress"]
    assert [each["ports"][0]["port"] for each in (calls, scrapes)] == ["grpc", "metrics"]
    assert calls["from"][0] == PEER
    tester = of_kind(rendered["everything"], "Pod")["metadata"]["labels"].items()
    assert calls["from"][1]["podSelector"]["matchLabels"].items() <= tester
    _, redis, more = policy["egress"]
    assert [each["port"] for each in redis["ports"]] == [6379, 6380]
    assert more["ports"] == [{"port": 4317}]


def test_replicas_are_the_autoscalers_business_where_there_is_one(rendered: dict[str, list[Document]]) -> None:
    assert "replicas" not in of_kind(rendered["everything"], "Deployment")["spec"]
    assert of_kind(rendered["defaults"], "Deployment")["spec"]["replicas"] == 2


def test_helm_test_calls_a_command_that_there_is(rendered: dict[str, list[Document]]) -> None:
    for documents in rendered.values():
        (container,) = of_kind(documents, "Pod")["spec"]["containers"]
        name, *options = container["args"]
        known = {word for each in main.commands[name].params for word in each.opts}
        assert {each.split("=")[0] for each in options} <= known
        (service, _) = (each for each in documents if each["kind"] == "Service")
        assert f"--target={NAME}:{service['spec']['ports'][0]['port']}" in options


def test_the_notes_name_the_addresses() -> None:
    done = helm("install", RELEASE, str(CHART), "--dry-run=client", f"--namespace={NAMESPACE}", values={})
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert f"{NAME}.{NAMESPACE}.svc:50051" in notes
    assert f"dns:///{NAME}-headless.{NAMESPACE}.svc:50051" in notes
    assert notes.count("WARNING") == 2


def test_a_package_holds_the_alerts(tmp_path: Path) -> None:
    linked = CHART / "files" / "prometheus-rules.yml"
    assert linked.is_symlink()
    assert linked.resolve() == RULES
    assert helm("package", str(CHART), f"--destination={tmp_path}").returncode == 0
    with tarfile.open(next(tmp_path.glob("statecast-*.tgz"))) as archive:
        packed = archive.extractfile("statecast/files/prometheus-rules.yml")
        assert packed is not None
        assert packed.read() == RULES.read_bytes()


PAGE = (ROOT / "docs" / "kubernetes.md").read_text()


def test_the_values_of_the_page_work_together() -> None:
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    values = {key: value for block in blocks for key, value in yaml.safe_load(block).items()}
    assert len(blocks) == 2
    assert len(render(values)) == 9


def test_the_values_that_the_page_names_are_there() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in re.findall(r"`((?:\w+\.)*\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))):
        found = defaults
        for part in name.split("."):
            found = found[part]


def test_the_page_tells_when_an_old_pod_leaves(rendered: dict[str, list[Document]]) -> None:
    end, times = 0.0, yaml.safe_load((CHART / "values.yaml").read_text())["shutdown"]
    for name in ("preStopSeconds", "drainSeconds", "graceSeconds"):
        end += times[name]
        assert re.search(rf"^\| (?:0 )?to {end:g} \| `shutdown.{name}`", PAGE, re.MULTILINE), name
    assert f"| to {end + ENGINE_SECONDS:g} | Engine and Redis stop. |" in PAGE
    assert f"| {pod(rendered['defaults'])['terminationGracePeriodSeconds']} | `terminationGracePeriodSeconds`" in PAGE
