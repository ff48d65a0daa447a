"""The page's files and answers: to whom, under which names, and within which limits."""

import re
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path

import pytest
from support import await_true
from support.looking import Looking
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client
from statecast.service.access import api_keys
from statecast.service.errors import StartupError
from statecast.service.page import directory, opening
from statecast.service.page.site import REQUESTS_A_SECOND
from statecast.service.page.static_files import SAFETY
from statecast.service.settings import Settings
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store

STATIC = files("statecast.service.page").joinpath("static")
NAMES = sorted(file.name for file in STATIC.iterdir())
HOSTILE = "<img src=x onerror=alert(1)>&\"'/%2F..?#</script>"


def test_there_is_no_page_unless_asked_for(server: ServerThread) -> None:
    for path in ("/page", "/page/", "/page/app.js", "/page/api/server"):
        assert Looking(server).get(path)[0] == 404


@pytest.mark.parametrize("name", ["", *NAMES])
def test_files_have_headers_that_keep_all_else_out(looking: Looking, name: str) -> None:
    status, headers, body = looking.get(f"/page/{name}")
    if name == "index.html":
        assert status == 404
        return
    assert status == 200
    assert body == STATIC.joinpath(name or "index.html").read_bytes()
    assert {field: headers[field] for field in SAFETY} == SAFETY
    assert looking.get(f"/page/{name}", If_None_Match=headers["ETag"])[::2] == (304, b"")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_files_hold_nothing_inline_and_name_no_other_site() -> None:
    page = STATIC.joinpath("index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    for name in NAMES:
        text = STATIC.joinpath(name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"//\w+\.|innerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name


def test_answers_have_them_too(looking: Looking) -> None:
    for path in ("/page/api/server", "/page/api/nothing", "/page/nothing.js", "/page/../etc/passwd", "/page"):
        _, headers, _ = looking.get(path)
        assert {field: headers[field] for field in SAFETY} == SAFETY
    assert looking.get("/page")[1]["Location"] == "/page/"
    assert looking.get("/page/", method="POST")[0] == 405
    assert looking.get("/page/api/session?id=x", method="HEAD")[::2] == (200, b"")


def test_hostile_names_are_data(looking: Looking, client: Client, session_id: str) -> None:
    client.session(f"{session_id}{HOSTILE}", model="tiny").observe([1.0])
    await_true(lambda: looking.ask("sessions", prefix=session_id)["total"] == 1)
    (listed,) = looking.ask("sessions", prefix=session_id)["sessions"]
    assert listed["id"] == f"{session_id}{HOSTILE}"
    with looking.following(f"{session_id}{HOSTILE}") as following:
        assert following.view()["session"]["id"] == f"{session_id}{HOSTILE}"
    assert (following.fields["Content-Type"], following.fields["Cache-Control"]) == ("text/event-stream", "no-store")


def test_models_and_their_cards(looking: Looking) -> None:
    names = {(each["name"], each["version"]) for each in looking.ask("server")["models"]}
    assert {("base", "2"), ("shop", "1"), ("letters", "1"), ("pump", "1")} <= names
    shop, letters = looking.ask("model", name="shop"), looking.ask("model", name="letters", version="1")
    assert shop["card"].startswith("# shop version 1")
    assert (shop["targets"], shop["covariates"], shop["horizon"]) == (["sold", "returned"], ["price", "holiday"], 6)
    assert (letters["classes"], letters["card"]) == (4, "")
    missing = looking.ask("model", name="../shop")
    assert (missing["status"], missing["reason"]) == (404, "MODEL_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("sessions?size=101", "size"), ("sessions?offset=-1", "offset"), ("sessions?offset=9999999", "offset"),
        ("sessions?prefix=" + "x" * 300, "prefix"), ("session", "id"), ("session?id=a%00b", "id"),
        ("session?id=x&target=y", "target"), ("sessions?prefix=%ff", "query"), ("sessions?" + "a=1&" * 9, "query"),
    ],
)  # fmt: skip
def test_fields_are_checked(looking: Looking, path: str, field: str) -> None:
    status, _, body = looking.get(f"/page/api/{path}")
    assert status == 400
    assert body.startswith(b'{"error":"' + field.encode())


def test_other_sites_and_other_names_may_not_ask(looking: Looking) -> None:
    for site in ("cross-site", "same-site"):
        assert looking.get("/page/api/sessions", Sec_Fetch_Site=site)[0] == 403
        assert looking.get("/page/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 200
    assert looking.get("/page/api/server", Sec_Fetch_Site="same-origin")[0] == 200
    for host in ("evil.example", "evil.example:9464", "localhost.evil.example", "", "127.0.0.1.evil.example"):
        assert looking.get("/page/api/server", Host=host)[0] == HTTPStatus.MISDIRECTED_REQUEST, host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9464", "192.168.1.7:80"):
        assert looking.get("/page/api/server", Host=host)[0] == 200, host


def test_too_many_requests_are_refused(looking: Looking) -> None:
    answers = [looking.get_now("/page/api/server") for _ in range(3 * int(REQUESTS_A_SECOND))]
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused
    assert refused[0][1]["Retry-After"] == "1"
    await_true(lambda: looking.get_now("/page/api/server")[0] == 200)


def test_ten_thousand_sessions_in_order(any_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(any_redis.url, 5.0, None)
    with client.pipeline() as pipeline:
        for at in range(10_000):
            pipeline.set(f"many:default:meter/{at:05d}", b"no record")
        pipeline.set("many:default:pump", b"")
        pipeline.set("many:other:meter/x", b"")
        pipeline.execute()
    found = directory.Directory(Store(client, "many"))
    page = found.page("default", "meter/", 9_950, 100)
    assert (page.total, page.is_complete, len(page.rows)) == (10_000, True, 50)
    assert (page.rows[0].session_id, page.rows[-1].session_id) == ("meter/09950", "meter/09999")
    assert page.rows[0].problem == "damaged"
    assert [row.session_id for row in found.page("default", "meter/0012", 0, 3).rows] == [
        "meter/00120", "meter/00121", "meter/00122"
    ]  # fmt: skip
    assert found.page("default", "", 0, 1).total == 10_001
    assert found.page("other", "", 0, 9).total == 1
    assert found.page("default", "*", 0, 9).total == 0
    monkeypatch.setattr(directory, "MOST_NAMES", 500)
    few = directory.Directory(Store(client, "many")).page("default", "meter", 0, 1)
    assert not few.is_complete
    assert few.total < 10_000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return {
        "path": str(path),
        "acme": api_keys.create(path, "acme", "write")[1],
        "reader": api_keys.create(path, "acme", "read")[1],
        "other": api_keys.create(path, "other", "admin")[1],
    }


def test_behind_the_same_credentials(any_redis: RedisProcess, keys: dict[str, str]) -> None:
    path = Path(keys["path"])
    server = ServerThread(
        Settings(redis_url=any_redis.url, namespace="guarded", page=True, page_viewers=3, api_keys=path)
    )
    try:
        with Client(server.target, api_key=keys["acme"]) as client:
            client.session("meter 7").observe([1.0, 2.0])
        stranger, reader, other = Looking(server), Looking(server, keys["reader"]), Looking(server, keys["other"])
        assert stranger.get("/page/")[0] == 200
        for name in ("server", "sessions", "session?id=meter+7", "model?name=base", "nothing"):
            status, headers, _ = stranger.get(f"/page/api/{name}")
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer"), name
        assert Looking(server, "sck_wrong").ask("server")["status"] == 401
        assert (reader.ask("server")["tenant"], reader.ask("server")["role"]) == ("acme", "read")
        assert [each["id"] for each in reader.ask("sessions")["sessions"]] == ["meter 7"]
        assert other.ask("sessions")["total"] == 0
        assert reader.get("/page/api/server", Host="any.example")[0] == 200
        with other.following("meter 7") as following:
            assert following.view()["problem"] == "There is no session 'meter 7'."
        key_id, doomed = api_keys.create(path, "acme", "read")
        await_true(lambda: Looking(server, doomed).get("/page/api/server")[0] == 200)
        with Looking(server, doomed).following("meter 7") as following:
            assert following.view()["step"] == 2
            api_keys.revoke(path, key_id)
            assert ("refused", "CREDENTIAL_INVALID") in [(name, told["reason"]) for name, told in following.events()]
    finally:
        server.stop()


def test_not_without_credentials_where_callers_need_certificates() -> None:
    with pytest.raises(StartupError, match="page needs api-keys or jwt-keys"):
        opening.check(Settings(page=True, tls_client_ca=Path("ca.pem")))
    opening.check(Settings(page=True, tls_client_ca=Path("ca.pem"), api_keys=Path("keys.json")))
