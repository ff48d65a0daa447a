"""The image brings kernels that its containers use."""

import re

from deploy.files import ROOT, compose

STAGES = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text().replace("\\\n", ""), flags=re.MULTILINE)[1:]


def variables(stage: str) -> dict[str, str]:
    """Return the variables that ENV sets in a stage."""
    lines = re.findall(r"^ENV (.*)$", stage, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(lines)))


def test_kernels_are_compiled_for_the_processor_that_containers_tell_numba() -> None:
    built, run = map(variables, STAGES[-2:])
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        assert built[name] == run[name]
    assert "kernels.cache import install" in STAGES[-2]


def test_containers_with_a_read_only_root_can_copy_the_kernels() -> None:
    cache = variables(STAGES[-1])["STATECAST_KERNEL_CACHE"]
    for name in ("server-a", "server-b"):
        service = compose()["services"][name]
        assert any(cache.startswith(f"{folder}/") for folder in service["tmpfs"])


def test_code_is_a_layer_of_its_own() -> None:
    """An upgrade that changes the code alone does not transfer torch again."""
    dependencies, build, run = STAGES
    assert not re.search(r"^COPY (proto|model|service|client)", dependencies, re.MULTILINE)
    assert "pip install --no-deps" in build
    assert re.findall(r"^COPY --from=(\w+)", run, re.MULTILINE) == ["dependencies", "build"]
    assert "COPY --from=build /code /\n" in run
