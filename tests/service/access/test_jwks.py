"""Which keys of a JWKS are used, and how they follow its file or URL."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from support import WAIT_SECONDS
from support.tokens import (
    AUDIENCE,
    ISSUER,
    JSON,
    claims,
    document,
    is_accepted,
    jwk,
    loaded,
    private_key,
    public_jwk,
    refusal,
    sign,
)

from statecast.service.access import jwks
from statecast.service.access.tokens import Tokens, TokenSettings
from statecast.service.errors import StartupError

RSA_1024 = rsa.generate_private_key(65537, 1024)
UNUSABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "enc": (lambda: public_jwk("RSA", "a", use="enc"), "not for signatures"),
    "ops": (lambda: public_jwk("RSA", "a", key_ops=["encrypt"]), "not for signatures"),
    "ops number": (lambda: public_jwk("RSA", "a", key_ops=7), "not for signatures"),
    "oaep": (lambda: public_jwk("RSA", "a", alg="RSA-OAEP"), "'RSA-OAEP'"),
    "rsa as hmac": (lambda: public_jwk("RSA", "a", alg="HS256"), "'HS256'"),
    "other type": (lambda: public_jwk("RSA", "a", alg="ES256"), "'ES256'"),
    "other curve": (lambda: public_jwk("ES256", "a", alg="ES384"), "'ES384'"),
    "secret": (lambda: {"kty": "oct", "kid": "a", "k": "c2VjcmV0LXNlY3JldA", "alg": "HS256"}, "'oct'"),
    "private": (lambda: jwk(private_key("RSA"), "a", key_ops=["verify"]), "private"),
    "small": (lambda: jwk(RSA_1024.public_key(), "a"), "fewer than 2048 bits"),
    "bitcoin": (lambda: jwk(ec.generate_private_key(ec.SECP256K1()).public_key(), "a"), "secp256k1"),
    "kid": (lambda: public_jwk("RSA") | {"kid": 7}, "not named by text"),
    "type list": (lambda: public_jwk("RSA") | {"kty": []}, "no accepted algorithm"),
    "no modulus": (lambda: {"kty": "RSA", "e": "AQAB", "kid": "a"}, "malformed"),
    "number": (lambda: public_jwk("RSA", "a", n=7), "malformed"),
    "off curve": (lambda: public_jwk("ES256", "a", x="A" * 43), "malformed"),
    "text": (lambda: "key", "not an object"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_key_is_skipped(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    make, why = UNUSABLE[case]
    with pytest.raises(StartupError, match=r"jwt-keys .*jwks\.json holds no usable key") as caught:
        loaded(tmp_path, make())
    assert why in str(caught.value)
    with caplog.at_level(logging.INFO):
        tokens = loaded(tmp_path, make(), public_jwk("EdDSA", "good"))
    assert why in caplog.text
    tokens.find(sign(claims(), kid="good"))
    refusal(tokens, sign(claims(), "RS256"))


def test_a_field_without_value_is_absent(tmp_path: Path) -> None:
    empty = dict.fromkeys(("kid", "use", "key_ops", "alg", "d"))
    assert loaded(tmp_path, public_jwk("EdDSA") | empty).find(sign(claims(), kid=None)).tenant == "acme"


@settings(max_examples=200)
@given(
    algorithm=st.sampled_from(["RSA", "ES256", "EdDSA"]),
    changes=st.dictionaries(
        st.sampled_from(["kty", "crv", "alg", "use", "key_ops", "kid", "n", "e", "x", "y"]),
        JSON,
        min_size=1,
        max_size=3,
    ),
)
def test_any_key_is_taken_or_skipped(algorithm: str, changes: dict[str, Any]) -> None:
    content = document(public_jwk(algorithm, "a") | changes, public_jwk("EdDSA", "good"))
    assert jwks.keys_of(content, "jwks.json", may_be_empty=False)[-1].kid == "good"


async def load_error(keys: str) -> str:
    with pytest.raises(StartupError) as caught:
        await Tokens(TokenSettings(keys, ISSUER, AUDIENCE)).load()
    assert str(caught.value).startswith("jwt-keys ")
    return str(caught.value)


async def test_a_file_that_cannot_be_used_is_a_startup_error(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    assert "jwks.json cannot be read: No such file or directory; name the file" in await load_error(str(path))
    assert "Is a directory" in await load_error(str(tmp_path))
    for content in (b"", b"{}", b"[]", b"7", b"\xff", b'{"keys": {}}', b"[" * 100_000, b"-----BEGIN PUBLIC KEY-----"):
        path.write_bytes(content)
        assert "jwks.json is not a JWKS document" in await load_error(str(path))
    path.write_bytes(document())
    assert "jwks.json holds no usable key" in await load_error(str(path))
    path.write_bytes(document(public_jwk("RSA", "a"), {"fill": "x" * 2**20}))
    assert "larger than 1 MiB" in await load_error(str(path))


class KeyServer:
    """A local HTTP server whose answer a test sets."""

    def __init__(self) -> None:
        self.status, self.body, self.headers, self.asked = 200, b"", dict[str, str](), list[str]()
        self.drips = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                moved = outer.status in (301, 302, 307, 308) and self.path != "/moved"
                self.send_response(outer.status if moved or outer.status >= 400 else 200)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(outer.body)
                    while outer.drips:
                        self.wfile.write(b" ")
                        time.sleep(0.01)

            def do_CONNECT(self) -> None:
                outer.asked.append(self.path)
                self.send_error(502)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/jwks?secret=7"
        Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def stop(self) -> None:
        self.drips = False
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    server = KeyServer()
    server.body = document(public_jwk("EdDSA", "a"))
    yield server
    server.stop()


async def test_keys_come_from_a_url(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # No proxy stands between the server and its own machine.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    tokens = Tokens(TokenSettings(server.url, ISSUER, AUDIENCE))
    await tokens.load()
    assert tokens.find(sign(claims())).tenant == "acme"
    assert server.asked == ["/jwks?secret=7"]


async def test_a_url_that_fails_is_a_startup_error(server: KeyServer) -> None:
    server.status = 404
    message = await load_error(server.url)
    assert f"http://127.0.0.1:{server.port}/jwks cannot be fetched: HTTP Error 404: Not Found" in message
    assert "the server does not start without" in message
    assert "secret" not in message
    server.status, server.body = 200, b"<html>"
    assert "is not a JWKS document" in await load_error(server.url)
    server.body = document(public_jwk("RSA", "a"), {"fill": "x" * 2**20})
    assert "larger than 1 MiB" in await load_error(server.url)
    server.stop()
    assert "Connection refused" in await load_error(server.url)


async def test_a_slow_answer_is_given_up(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 1.0)
    server.drips = True
    assert "cannot be fetched: it took longer than 1 s" in await load_error(server.url)
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in await load_error(f"http://127.0.0.1:{silent.getsockname()[1]}/")


async def test_a_redirect_stays_with_its_server(server: KeyServer) -> None:
    server.status, server.headers = 302, {"Location": "/moved"}
    await Tokens(TokenSettings(server.url, ISSUER, AUDIENCE)).load()
    assert server.asked == ["/jwks?secret=7", "/moved"]
    for location in (
        f"http://localhost:{server.port}/moved",
        f"https://127.0.0.1:{server.port}/moved",
        f"http://127.0.0.1:{server.port + 1}/moved",
        f"ftp://127.0.0.1:{server.port}/moved",
        "file:///etc/hostname",
        "http://127.0.0.1:99999999/moved",
        "//issuer.example/moved",
    ):
        server.headers, server.asked = {"Location": location}, []
        assert "cannot be fetched: " in await load_error(server.url)
        assert server.asked == ["/jwks?secret=7"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://issuer.example/jwks", "not encrypted"),
        ("HTTP://issuer.example/jwks", "not encrypted"),
        ("http://localhost.example/jwks", "not encrypted"),
        ("http://127.0.0.1.example/jwks", "not encrypted"),
        ("http://10.0.0.1/jwks", "not encrypted"),
        ("http://127.0.0.1@issuer.example/jwks", "neither user name"),
        ("https://ann:secret@issuer.example/jwks", "neither user name"),
        ("https:///jwks", "must have a host"),
        ("https://[::1/jwks", "not a valid URL"),
        ("https://issuer.example:port/jwks", "not a valid URL"),
    ],
)
def test_an_unsafe_url_is_a_startup_error(url: str, why: str) -> None:
    with pytest.raises(StartupError, match=f"^jwt-keys .*{why}") as caught:
        Tokens(TokenSettings(url, ISSUER, AUDIENCE))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:1/", "http://127.9.9.9:1/", "http://[::1]:1/", "https://a.example/"])
def test_a_safe_url_is_accepted(url: str) -> None:
    Tokens(TokenSettings(url, ISSUER, AUDIENCE))


async def test_https_goes_through_the_systems_proxy(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert "502" in await load_error("https://issuer.example/jwks")
    assert server.asked == ["issuer.example:443"]


@asynccontextmanager
async def refreshing(tokens: Tokens) -> AsyncIterator[None]:
    await tokens.load()
    task = asyncio.create_task(tokens.refresh())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def put(path: Path, content: bytes) -> None:
    """Replace a file at once."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_empty_list_withdraws_all_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "FILE_SECONDS", 0.01)
    path = tmp_path / "jwks.json"
    put(path, document(public_jwk("EdDSA", "a")))
    tokens, token = Tokens(TokenSettings(str(path), ISSUER, AUDIENCE)), sign(claims())
    async with refreshing(tokens):
        signer = tokens.find(token).signer
        put(path, b'{"keys": []}')
        await eventually(lambda: not tokens.trusts(signer))
        assert not is_accepted(tokens, token)
        assert "holds no key any more" in caplog.text


async def test_a_file_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "FILE_SECONDS", 0.01)
    path = tmp_path / "jwks.json"
    put(path, document(public_jwk("EdDSA", "a")))
    tokens = Tokens(TokenSettings(str(path), ISSUER, AUDIENCE))
    old, new = sign(claims()), sign(claims(), kid="b", number=1)
    async with refreshing(tokens):
        signer = tokens.find(old).signer
        assert not is_accepted(tokens, new)
        put(path, document(public_jwk("EdDSA", "b", 1)))
        await eventually(lambda: is_accepted(tokens, new))
        assert "names the key 'a'" in refusal(tokens, old)
        assert not tokens.trusts(signer)  # so that its tokens' streams end
        put(path, b"{")
        await eventually(lambda: len(warnings(caplog)) == 1)
        path.unlink()
        await eventually(lambda: len(warnings(caplog)) == 2)
        put(path, b"{")
        await asyncio.sleep(0.1)
        assert is_accepted(tokens, new)
        put(path, document(public_jwk("EdDSA", "a"), public_jwk("EdDSA", "b", 1)))
        await eventually(lambda: is_accepted(tokens, old))
    first, second = warnings(caplog)
    assert "jwks.json is not a JWKS document" in first
    assert "jwks.json cannot be read: No such file or directory; the keys from before are kept" in second


async def test_an_unknown_key_asks_for_a_fetch(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "MISS_SECONDS", 0.3)
    tokens = Tokens(TokenSettings(server.url, ISSUER, AUDIENCE))
    new = sign(claims(), kid="b", number=1)
    async with refreshing(tokens):
        await asyncio.sleep(0.6)
        assert len(server.asked) == 1
        server.body = document(public_jwk("EdDSA", "b", 1))
        started = time.monotonic()
        await eventually(lambda: is_accepted(tokens, new))
        assert len(server.asked) == 2
        server.status = 500
        for _ in range(2):
            asked = len(server.asked)
            assert not is_accepted(tokens, sign(claims(), kid="c"))
            await eventually(lambda asked=asked: len(server.asked) > asked)  # type: ignore[misc]
        # Each of the last two fetches waits for the shortest pause.
        assert time.monotonic() - started >= 0.6
        assert is_accepted(tokens, new)
        await eventually(lambda: len(warnings(caplog)) == 1)
    assert "HTTP Error 500" in warnings(caplog)[0]


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        (None, 300),
        ("no-cache", 300),
        ("public, max-age=600, must-revalidate", 600),
        ("s-maxage=600", 300),
        ("max-age=1", 60),
        ("max-age=0", 60),
        ('MAX-AGE="900"', 900),
        ("max-age=99999999999999", 3600),
        ("max-age=-1", 300),
    ],
)
async def test_the_answer_says_when_to_fetch_again(server: KeyServer, header: str | None, pause: float) -> None:
    server.headers = {} if header is None else {"Cache-Control": header}
    keys = jwks.Keys(server.url)
    assert await keys.update()
    assert keys.pause_seconds == pause
    assert not await keys.update()


async def test_find_does_not_wait_for_the_keys(server: KeyServer) -> None:
    tokens = Tokens(TokenSettings(server.url, ISSUER, AUDIENCE))
    assert "lacks" in refusal(tokens, sign(claims()))
    assert server.asked == []
