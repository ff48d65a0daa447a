"""The page in a real browser: what it shows, with which keys and in which colours, and what it must not do."""

import math
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from support.browser import BROWSER, Browser, Tab, browsing
from support.looking import Looking
from support.programs import needs
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client, Session
from statecast.service.access import api_keys
from statecast.service.metrics_endpoint import MAX_CONNECTIONS
from statecast.service.settings import Settings

pytestmark = needs(BROWSER)
HOSTILE = "<img src=x onerror=document.title='x'>&\"'/%2F..?#</script>"
WIDTHS = {"phone": (390, 844), "desktop": (1360, 860)}
LIVE = "document.querySelector('.status')?.dataset.kind === 'live' && document.querySelector('.fan .axis, .symbols')"
SHOWN = "document.querySelector('.sessions a, .nothing')"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, looking: Looking) -> Iterator[Browser]:
    """Give the browser, and check afterwards that no page has complained or asked another server."""
    chromium.problems.clear()
    chromium.addresses.clear()
    yield chromium
    assert not chromium.problems
    assert not [each for each in chromium.addresses if not each.startswith(("http://127.0.0.1:", "about:"))]


@pytest.fixture(scope="module")
def sessions(client: Client) -> dict[str, Session]:
    """Open sessions of every kind."""
    random = np.random.default_rng(1)
    wave = 20 + 4 * np.sin(np.arange(60) * np.pi / 12) + 0.3 * random.standard_normal(60)
    gaps = np.where(random.random(60) < 0.2, math.nan, wave)
    rows = 30 + random.random((12, 2))
    models = {
        "plain": "base", "gaps": "tiny", "several": "three", "symbols": "letters", "imported": "pump", "dated": "shop",
        "one value": "base", HOSTILE: "tiny",
    }  # fmt: skip
    opened = {name: client.session(name, model=model, max_ahead=0) for name, model in models.items()}
    opened["plain"].observe(wave)
    opened["gaps"].observe(gaps)
    opened["several"].observe(random.random((12, 3)))
    opened["symbols"].observe([0.0, 1.0, 2.0, 3.0])
    opened["imported"].observe(wave[:6])
    opened["dated"].observe(rows, start_time=np.datetime64("2024-03-30T20:00"))
    opened["one value"].observe([5.0])
    opened[HOSTILE].observe([1.0, 2.0])
    return opened


def address(looking: Looking, *parts: str) -> str:
    return f"{looking.address}#/{'/'.join(quote(part, safe='') for part in parts)}"


def images(tab: Tab) -> list[str]:
    """Return what a screen reader says of the page's pictures."""
    nodes: list[dict[str, Any]] = tab.call("Accessibility.getFullAXTree")["nodes"]
    pictures = [node for node in nodes if node.get("role", {}).get("value") == "image" and not node.get("ignored")]
    return [node.get("name", {}).get("value", "") for node in pictures]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_kind_of_session_fits_every_width_in_both_themes(
    browser: Browser, looking: Looking, sessions: dict[str, Session], width: str, dark: bool
) -> None:
    tab = browser.open(looking.address, *WIDTHS[width], dark=dark)
    tab.await_true(SHOWN)
    for name in sessions:
        tab.go(address(looking, "session", name))
        tab.await_true(f"{LIVE} && document.querySelector('h1').textContent === {name!r}")
        assert tab.run("document.documentElement.scrollWidth <= innerWidth"), name
        for selector in ("h1", ".facts", ".tiles dd", ".card h2", ".about"):
            assert tab.run(f"contrast({selector!r})" if tab.run(CONTRAST) else "") >= 4.5, (name, selector)
        assert all(images(tab)), name
    tab.close()


CONTRAST = """
(() => {
  globalThis.contrast = (selector) => {
    const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
    const light = (colour) => {
      pixel.fillStyle = colour;
      pixel.fillRect(0, 0, 1, 1);
      const parts = [...pixel.getImageData(0, 0, 1, 1).data].map((each) => each / 255);
      const [red, green, blue] = parts.map((each) => (each <= 0.04 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const element = document.querySelector(selector), back = (each) => getComputedStyle(each).backgroundColor;
    let behind = element;
    while (back(behind).startsWith("rgba(0, 0, 0, 0")) behind = behind.parentElement;
    const both = [light(getComputedStyle(element).color), light(back(behind))];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  };
  return true;
})()
"""


def test_it_moves_as_observations_arrive(browser: Browser, looking: Looking, client: Client, session_id: str) -> None:
    session = client.session(session_id)
    session.observe(20 + np.sin(np.arange(40.0)))
    tab = browser.open(address(looking, "session", session_id))
    tab.await_true(LIVE)
    before = tab.run("document.querySelector('.fan .observed').getAttribute('d')")
    forecast = session.step(21.25, horizon=6)
    tab.await_true("document.querySelector('.tiles').innerText.includes('21.25')")
    assert tab.run("document.querySelector('.fan .observed').getAttribute('d')") != before
    assert f"{forecast.median[0]:.4g}" in tab.text(".tiles")
    assert tab.run("document.querySelectorAll('.fan .band').length") == 6
    assert len(tab.run("document.querySelector('.heat path').getAttribute('d')")) > 10
    assert re.search(r"21.25 at step 41. Next step: [\d.]+, from [\d.]+ to [\d.]+ with 80%", images(tab)[0])
    session.close()
    tab.await_true("document.querySelector('.problem').innerText.includes('was closed at step 41')")
    assert tab.text(".status") == "gone"
    tab.close()


def test_values_that_are_missing_or_surprise_are_marked(
    browser: Browser, looking: Looking, client: Client, session_id: str
) -> None:
    session = client.session(session_id)
    session.observe(20 + np.sin(np.arange(48.0) * np.pi / 12))
    for value in (20.0, math.nan, 400.0):
        session.observe([value])
    tab = browser.open(address(looking, "session", session_id))
    tab.await_true(LIVE)
    assert tab.run("document.querySelectorAll('.fan .missing').length") == 1
    assert tab.run("document.querySelectorAll('.fan .outside').length") == 1
    assert "unusually high" in tab.text(".tiles")
    assert "too few to judge" in tab.text("[aria-labelledby=calibration-title]")
    tab.close()


def test_ten_thousand_sessions_are_found_by_keyboard_alone(
    browser: Browser, looking: Looking, client: Client, any_redis: RedisProcess, namespace: str
) -> None:
    client.session("many/template", model="tiny").observe([1.0])
    with any_redis.client.pipeline() as pipeline:
        for at in range(9_999):
            pipeline.set(f"{namespace}:default:many/{at:05d}", b"not a record")
        pipeline.execute()
    tab = browser.open(looking.address)
    tab.await_true(SHOWN)
    tab.press("/")
    tab.type("many/")
    tab.await_true("document.querySelector('.count').innerText === '1\\u201350 of 10,000'")
    assert tab.run("document.querySelectorAll('.sessions a').length") == 50
    tab.type("temp")
    tab.await_true("document.querySelector('.count').innerText === '1\\u20131 of 1'")
    tab.press("ArrowDown")
    tab.press("Enter", "\r")
    tab.await_true(LIVE)
    assert tab.text("h1") == "many/template"
    assert tab.run("document.activeElement.getAttribute('aria-current')") == "page"
    tab.run("document.querySelector('.fan').focus()")
    tab.press("Home")
    assert tab.text(".fan-card output").startswith("step 1: 1")
    tab.press("ArrowRight")
    assert tab.text(".fan-card output").startswith("step 2: forecast ")
    tab.close()


def test_names_and_cards_are_text(browser: Browser, looking: Looking, sessions: dict[str, Session]) -> None:
    tab = browser.open(address(looking, "session", HOSTILE))
    tab.await_true(LIVE)
    assert tab.text("h1") == HOSTILE
    assert tab.run("document.title") == f"{HOSTILE} · Statecast"
    assert tab.run("document.querySelectorAll('img').length") == 1
    tab.go(address(looking, "model", "shop", "1"))
    tab.await_true("document.querySelector('.card-text li')")
    assert tab.text(".card-text li") == "<script>alert(1)</script>"
    assert (tab.text(".card-text strong"), tab.text(".card-text td + td")) == ("shops", "0.61")
    assert tab.run("document.querySelectorAll('script').length") == 1
    tab.close()


def test_its_policy_blocks_what_is_not_its_own(chromium: Browser, looking: Looking) -> None:
    tab = chromium.open(looking.address)
    tab.await_true(SHOWN)
    tab.run(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.2:1/x'}), "
        "Object.assign(document.createElement('style'), {textContent: 'body {color: red}'}))"
    )
    assert tab.run("fetch('http://127.0.0.2:1/').then(() => 'sent', () => 'blocked')") == "blocked"
    for code in ("setAttribute('onclick', '1')", "insertAdjacentHTML('beforeend', '<b>')", "innerHTML = '<b>'"):
        assert "Trusted" in tab.run(f"try {{ document.body.{code} }} catch (error) {{ String(error) }}")
    assert len([problem for problem in chromium.problems if "Content Security Policy" in problem]) >= 3
    tab.close()


def test_a_target_is_chosen_and_numbers_are_a_table(
    browser: Browser, looking: Looking, sessions: dict[str, Session]
) -> None:
    tab = browser.open(address(looking, "session", "several"))
    tab.await_true(LIVE)
    tab.run(
        "const select = document.querySelector('#target'); select.value = 2; select.dispatchEvent(new Event('change'))"
    )
    tab.await_true(f"{LIVE} && location.hash.endsWith('/several/2') && document.querySelector('#target').value === '2'")
    tab.run("document.querySelector('details').open = true")
    tab.await_true("document.querySelectorAll('details tbody tr').length === 18")
    assert "step 12" in tab.text("details table")
    tab.close()


def test_an_empty_server_says_how_to_begin(browser: Browser, any_redis: RedisProcess) -> None:
    server = ServerThread(Settings(redis_url=any_redis.url, namespace="empty", page=True))
    tab = browser.open(Looking(server).address)
    tab.await_true(SHOWN)
    assert "No sessions yet" in tab.text(".sessions")
    assert 'client.session("pump-17")' in tab.text(".sessions")
    tab.close()
    server.stop()


def test_it_asks_for_a_credential_and_keeps_it_nowhere(
    chromium: Browser, any_redis: RedisProcess, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    _, key = api_keys.create(path, "acme", "read")
    server = ServerThread(Settings(redis_url=any_redis.url, namespace="signed", page=True, api_keys=path))
    tab = chromium.open(Looking(server).address)
    for typed in ("wrong", key):
        tab.await_true("document.activeElement?.id === 'credential'")
        tab.type(typed)
        tab.press("Enter", "\r")
        if typed == "wrong":
            tab.await_true("document.querySelector('.problem').innerText.includes('not an API key')")
    tab.await_true(SHOWN)
    assert tab.text("#caller") == "acme · read"
    assert key not in tab.run(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    tab.run("document.querySelector('#sign-out').click()")
    tab.await_true("document.querySelector('#credential')")
    tab.close()
    server.stop()


def test_it_connects_again_by_itself(browser: Browser, looking: Looking, sessions: dict[str, Session]) -> None:
    """The port ends the connection that has asked least recently if there are too many."""
    tab = browser.open(address(looking, "session", "plain"))
    tab.await_true(LIVE)
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection((looking.host, looking.port)))
        tab.await_true("document.querySelector('.status').dataset.kind === 'waiting'")
    tab.await_true(LIVE)
    browser.problems.clear()  # the browser's own words about the connections that were ended
    tab.close()
