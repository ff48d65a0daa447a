"""A headless Chromium, driven over a pipe by the protocol of its developer tools."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import WAIT_SECONDS

BROWSER = "chromium-headless-shell"
PROGRAM = shutil.which(BROWSER)
FLAGS = ("--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe")


class Browser:
    """A running browser; `problems` are the errors of its pages, and what their policy has blocked."""

    def __init__(self, profile: Path) -> None:
        here_in, there_out = os.pipe()
        there_in, here_out = os.pipe()
        start = f'exec "$@" 3<&{there_in} 4>&{there_out}'
        command = ["bash", "-c", start, "bash", str(PROGRAM), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, pass_fds=(there_in, there_out), stdout=quiet, stderr=quiet)
        os.close(there_in)
        os.close(there_out)
        self._in, self._out = os.fdopen(here_in, "rb", buffering=0), os.fdopen(here_out, "wb", buffering=0)
        self._number, self._buffer = 0, b""
        self.problems: list[str] = []
        self.addresses: list[str] = []

    def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._out.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> "Tab":
        """Open a page in a new tab that shares nothing with others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.resize(width, height)
        tab.go(address)
        return tab

    def close(self) -> None:
        """End the browser."""
        self._in.close()
        self._out.close()
        self._process.terminate()
        self._process.wait(WAIT_SECONDS)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = self._in.read(65536)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        return read

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description") or details["text"])
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.problems.append(told["entry"]["text"])
            case "Network.requestWillBeSent":
                self.addresses.append(told["request"]["url"])


class Tab:
    """A page in a browser."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, self._session, **parameters)

    def go(self, address: str) -> None:
        """Go to an address."""
        done = self.call("Page.navigate", url=address)
        assert "errorText" not in done, done

    def resize(self, width: int, height: int) -> None:
        """Show the page in a window of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, code: str) -> Any:
        """Return the value of a JavaScript expression."""
        # The developer tools may run code that the page's policy forbids to the page.
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def await_true(self, code: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.run(f"Boolean({code})"):
            assert time.monotonic() < deadline, (code, self.text(), self._browser.problems)
            time.sleep(0.03)

    def text(self, selector: str = "body") -> str:
        """Return the text that an element shows."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def press(self, key: str, text: str = "") -> None:
        """Press a key."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write what the page looks like, as PNG; `whole` shows what is below the window, too."""
        shown = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(b64decode(shown["data"]))

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)


KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """Run a browser."""
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.close()
