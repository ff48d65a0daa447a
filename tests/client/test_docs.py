"""What docs/client.md shows is run, also where it needs models that take more than values.

Those blocks are marked `py`; tests/test_docs.py leaves them out, since its server has no such models.
"""

import re
from pathlib import Path

import pytest
from support.certificates import Authority
from support.servers import ServerThread

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def test_the_python_of_the_page_runs_from_top_to_bottom(
    knowing_server: ServerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Authority(tmp_path).client()  # the files of the page
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(py|python)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert sum(language == "py" for language, _ in blocks) >= 3
    code = "\n".join(block for _, block in blocks).replace("localhost:50051", knowing_server.target)
    exec(compile(code, PAGE.name, "exec"), {})
