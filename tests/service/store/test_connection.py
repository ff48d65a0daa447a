"""Errors about the URL of Redis do not reveal its password."""

from pathlib import Path

import pytest
import redis

from statecast.service.errors import StartupError
from statecast.service.store.connection import TlsFiles, connect, open_redis, why_unusable
from statecast.service.store.redis_url import Address, parse, redact


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa55#word@localhost:6379/0",
        "redis://user:pa55/word@localhost:6379/0",
        "redis://user:pa55?word@localhost:6379/0",
        "redis://:pa55@localhost:notaport/0",
        "redis://:pa55@localhost/abc",
        "redis://:pa55@localhost/0?no_such_option=1",
        "redis://localhost/0#pa55",
        "rediss://:pa55",
        "redis+cluster://user:pa55/word@localhost",
        "redis+cluster://:pa55@localhost:notaport",
        "redis+cluster://:pa55@localhost/3",
        "redis+cluster://:pa55@localhost,/0",
        "redis+cluster://:pa55@localhost?no_such_option=1",
        "redis+clusters://:pa55@localhost",
        "redis+sentinel://:pa55@localhost",
        "rediss+sentinel://:pa55@localhost/name/one",
        "unix+cluster://:pa55@localhost",
        "pa55word",
        "http://:pa55@localhost",
        "",
    ],
)
def test_nothing_of_an_address_that_cannot_be_read_is_quoted(url: str) -> None:
    with pytest.raises(StartupError) as caught:
        open_redis(url, 1.0)
    message = str(caught.value).replace("redis://pa55word", "")
    assert message.startswith("redis-url ")
    assert ":pa55" not in message
    assert "55#" not in message
    assert caught.value.__cause__ is None or "pa55" not in message


def test_an_unreadable_password_is_taken_once_it_is_encoded_as_advised() -> None:
    with pytest.raises(StartupError, match=r"percent-encoded \(# as %23.*--redis-password-file"):
        connect("redis://:pa#55@localhost:6379/0", 1.0)
    assert connect("redis://:pa%2355@localhost:6379/0", 1.0).connection_pool.connection_kwargs["password"] == "pa#55"
    assert connect("redis://localhost:6379/0", 1.0, "pa#55").connection_pool.connection_kwargs["password"] == "pa#55"


@pytest.mark.parametrize("url", ["127.0.0.1:6449", "localhost", "redis.example:6379", "[::1]:6379"])
def test_an_address_without_a_scheme_is_taken_with_it_as_advised(url: str) -> None:
    with pytest.raises(StartupError, match=r"must begin with redis://, rediss:// \(TLS\) or unix://") as caught:
        connect(url, 1.0)
    advised = str(caught.value).rpartition(" write ")[2]
    assert advised == f"redis://{url}"
    connect(advised, 1.0)


def test_a_url_of_several_addresses_is_taken_apart() -> None:
    url = parse("rediss+sentinel://u:p%40@a,b:1,[::1]:3/main/2?sentinel_password=x%20y&ssl_ca_certs=/c")
    assert url is not None
    assert (url.kind, url.name) == ("sentinel", "main")
    assert [str(each) for each in url.addresses] == ["a:26379", "b:1", "[::1]:3"]
    assert url.node(Address("h", 7)) == "rediss://u:p%40@h:7/2?ssl_ca_certs=%2Fc"
    assert url.sentinel(url.addresses[2]) == "rediss://:x%20y@[::1]:3?ssl_ca_certs=%2Fc"
    cluster = parse("redis+cluster://a,b:7001/0")
    assert cluster is not None
    assert cluster.node(cluster.addresses[0]) == "redis://a:6379/"
    assert parse("unix:///x.sock") is None


@pytest.mark.parametrize(
    ("url", "files", "says"),
    [
        ("redis://localhost", TlsFiles(Path("ca.pem")), "need TLS; let redis-url begin with rediss://"),
        ("redis+cluster://localhost", TlsFiles(Path("ca.pem")), "begin with rediss\\+cluster://"),
        ("rediss://localhost", TlsFiles(Path("no-such.pem")), "redis-ca no-such.pem cannot be used: No such file"),
        ("rediss://localhost", TlsFiles(cert=Path("a.pem")), "redis-cert and redis-key belong together"),
        (
            "rediss://localhost",
            TlsFiles(None, Path("a.pem"), Path("b.pem")),
            "redis-cert a.pem and redis-key b",
        ),
        ("rediss://localhost?ssl_ca_certs=x", TlsFiles(Path(__file__)), "cannot be used|leave out one of the two"),
    ],
)
def test_files_for_tls_that_cannot_be_used_are_named(url: str, files: TlsFiles, says: str) -> None:
    with pytest.raises(StartupError, match=says):
        open_redis(url, 1.0, files=files)


def test_two_passwords_are_one_too_many() -> None:
    with pytest.raises(StartupError, match="leave out one of the two") as caught:
        connect("redis://:pa55@localhost", 1.0, "other")
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (redis.AuthenticationError("Authentication required."), "requires a password"),
        (
            redis.AuthenticationError("WRONGPASS invalid username-password pair or user is disabled."),
            "rejects this user and password",
        ),
        (
            redis.ConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version number"),
            "write redis:// instead of rediss://",
        ),
        (redis.ConnectionError("Connection closed by server."), "write rediss:// instead of redis://"),
        (redis.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED]"), "ssl_ca_certs"),
        (redis.ConnectionError("Error 111 connecting to x. Connection refused."), "cannot be reached"),
        (redis.TimeoutError("Timeout connecting to server"), "cannot be reached"),
    ],
)
def test_why_redis_cannot_be_used_comes_with_what_to_do(error: redis.RedisError, says: str) -> None:
    message = why_unusable("rediss://user:secret@host:1/0", error)
    assert says in message
    assert "rediss://***@host:1/0" in message
    assert "secret" not in message


def test_the_password_and_the_options_are_redacted() -> None:
    assert redact("redis://user:secret@127.0.0.1:1/0?password=secret") == "redis://***@127.0.0.1:1/0"
    assert redact("unix:///x/y.sock") == "unix:///x/y.sock"
