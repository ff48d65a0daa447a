"""The .proto files as other languages take them: the folder alone, without options of one's own.

These need what .ci/run installs: protoc, and for Go and Java also its plugins, the libraries and the compilers as
Debian packages them.
"""

import shutil
from pathlib import Path

import google.api
import google.rpc
import pytest
from support.programs import needs, run

PROTO = Path(__file__).parents[2] / "proto"
NAMES = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("statecast/v1/*.proto"))
STATUS, HTTP = "google/rpc/status.proto", ("google/api/annotations.proto", "google/api/http.proto")
JARS = [
    Path(f"/usr/share/java/{name}.jar")
    for name in ("grpc-api", "grpc-stub", "grpc-protobuf", "protobuf", "guava", "geronimo-annotation-1.3-spec")
]
GO_PATH = Path("/usr/share/gocode")
GO_PACKAGES = ("google.golang.org/protobuf", "google.golang.org/grpc", "google.golang.org/genproto")


def protoc(*arguments: str) -> None:
    """Run protoc with nothing on its path but the folder, and what it brings itself."""
    run("protoc", "-I", ".", *arguments, folder=PROTO)


@needs("protoc")
@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("cpp", "statecast/v1/forecast_service.pb.h"),
        ("csharp", "ForecastService.cs"),
        ("java", "com/statecast/v1/ForecastRequest.java"),
        ("kotlin", "com/statecast/v1/ForecastRequestKt.kt"),
        ("objc", "statecast/v1/ForecastService.pbobjc.h"),
        ("php", "Statecast/V1/ForecastRequest.php"),
        ("ruby", "statecast/v1/forecast_service_pb.rb"),
    ],
)
def test_the_folder_alone_makes_code(tmp_path: Path, language: str, expected: str) -> None:
    protoc(f"--{language}_out={tmp_path}", *NAMES, STATUS, *HTTP)
    assert (tmp_path / expected).exists()


@needs("protoc", "protoc-gen-go", "protoc-gen-go-grpc", "go", *(GO_PATH / "src" / name for name in GO_PACKAGES))
def test_go_compiles(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    protoc(f"--go_out={source}", f"--go-grpc_out={source}", *NAMES)
    package = source / "statecast" / "v1"
    assert {path.name for path in package.iterdir()} >= {"forecast.pb.go", "forecast_service_grpc.pb.go"}
    paths = {"GOPATH": f"{tmp_path}:{GO_PATH}", "GOCACHE": str(tmp_path / "cache")}
    run("go", "build", "statecast/v1", folder=tmp_path, GO111MODULE="off", **paths)


@needs("protoc", "grpc_java_plugin", "javac", *JARS)
def test_java_compiles(tmp_path: Path) -> None:
    plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
    protoc(f"--java_out={tmp_path}", plugin, f"--grpc-java_out={tmp_path}", *NAMES, STATUS, *HTTP)
    sources = [str(path) for path in tmp_path.rglob("*.java")]
    assert any(path.endswith("com/statecast/v1/ForecastServiceGrpc.java") for path in sources)
    run("javac", "-nowarn", "-cp", ":".join(map(str, JARS)), "-d", str(tmp_path / "classes"), *sources, folder=tmp_path)
    assert (tmp_path / "classes" / "com" / "statecast" / "v1" / "ForecastServiceGrpc.class").exists()


@pytest.mark.parametrize("name", [STATUS, *HTTP])
def test_what_comes_from_google_is_unchanged(name: str) -> None:
    """But for the year in its header, which their releases count on."""
    ours = (PROTO / name).read_text()
    folders = [Path(each) for each in (*google.rpc.__path__, *google.api.__path__)]
    packaged = next(
        each.parents[1] / name
        for each in folders
        if PROTO not in each.parents and name.startswith(f"google/{each.name}")
    )
    assert ours.splitlines()[1:] == packaged.read_text().splitlines()[1:]
    assert ours.startswith("// Copyright ")
    assert "Licensed under the Apache License, Version 2.0" in ours
