"""The .proto files as other languages take them: the folder alone, without options of one's own.

These need protoc. tests/examples/test_other_languages.py compiles Go, Java and TypeScript, and runs them.
"""

from pathlib import Path

import google.api
import google.rpc
import pytest
from support.programs import needs, run

PROTO = Path(__file__).parents[2] / "proto"
NAMES = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("statecast/v1/*.proto"))
GOOGLE = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)


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
    protoc(f"--{language}_out={tmp_path}", *NAMES, *GOOGLE)
    assert (tmp_path / expected).exists()


@pytest.mark.parametrize("name", GOOGLE)
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
