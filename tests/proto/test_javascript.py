"""The JavaScript of docs/api.md, run by Node with the packages that npm brings."""

import re
import shutil
from pathlib import Path

from support.programs import needs, run
from support.servers import ServerThread

ROOT = Path(__file__).parents[2]
NODE = Path(__file__).parent / "node"


@needs("node", "npm")
def test_the_page_does_what_it_says(tmp_path: Path, server: ServerThread, session_id: str) -> None:
    shutil.copytree(NODE, tmp_path, dirs_exist_ok=True)
    run("npm", "ci", "--silent", folder=tmp_path)
    page = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"^```js\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    logged = "const said = new Promise((resolve) => { console.log = (...said) => resolve(said); });"
    code = "\n".join(blocks).replace("localhost:50051", server.target).replace("boiler 7", session_id)
    script = tmp_path / "page.js"
    script.write_text(f"{logged}\n{code}\n{(NODE / 'documented.js').read_text()}")
    run("node", script, folder=ROOT)
