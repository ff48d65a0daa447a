"""Tokens are accepted with the right key, algorithm and claims only, and the keys follow their file or URL."""

import asyncio
import base64
import hmac
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from statecast.service.access import tokens as module
from statecast.service.access.principal import Principal, Role
from statecast.service.access.tokens import LONGEST_TOKEN, Tokens, TokenSettings
from statecast.service.errors import StartupError, Unauthenticated
from statecast.v1.reasons import Reason

ISSUER, AUDIENCE = "https://issuer.example", "statecast"
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", *CURVES, "EdDSA"]
WAIT_SECONDS = 20.0


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """Return the private key of this number for an algorithm."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return private_key("RSA", number) if algorithm != "RSA" else rsa.generate_private_key(65537, 2048)


def jwk(key: Any, kid: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return the JSON Web Key of a public key, or of a private one."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        content = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        content = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        content = OKPAlgorithm.to_jwk(key, as_dict=True)
    return content | ({} if kid is None else {"kid": kid}) | fields


def public_jwk(algorithm: str, kid: str | None = None, number: int = 0, **fields: Any) -> dict[str, Any]:
    return jwk(private_key(algorithm, number).public_key(), kid, **fields)


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims with changes; None removes a claim."""
    valid = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(time.time()) + 600,
        "sub": "ann",
        "tenant": "acme",
        "role": "write",
    }
    return {name: value for name, value in (valid | changes).items() if value is not None}


def sign(
    content: Any, algorithm: str = "EdDSA", kid: str | None = "a", number: int = 0, key: Any = None, **header: Any
) -> str:
    """Sign claims, or bytes, with a key."""
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = header | ({} if kid is None else {"kid": kid})
    return jwt.PyJWS().encode(payload, key or private_key(algorithm, number), algorithm, headers)


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def mac(algorithm: str, key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, algorithm.replace("HS", "sha")).digest()


def assembled(header: dict[str, Any], signer: Callable[[bytes], bytes]) -> str:
    """Return a token that PyJWT would not make."""
    signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims()).encode())}"
    return f"{signed}.{encoded(signer(signed.encode()))}"


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def loaded(folder: Path, *keys: Any, **options: Any) -> Tokens:
    """Return verified tokens' verifier with the keys in a file."""
    path = folder / "jwks.json"
    path.write_bytes(document(*keys))
    tokens = Tokens(TokenSettings(str(path), ISSUER, AUDIENCE, **options))
    asyncio.run(tokens.load())
    return tokens


def refusal(tokens: Tokens, token: str, reason: Reason = Reason.CREDENTIAL_INVALID) -> str:
    with pytest.raises(Unauthenticated) as caught:
        tokens.find(token)
    assert caught.value.reason == reason
    assert token not in caught.value.message
    assert len(caught.value.message) < 300
    return caught.value.message


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return loaded(tmp_path, public_jwk("EdDSA", "a"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    keys = [public_jwk("EdDSA", "a"), public_jwk("RSA", "r"), public_jwk("ES256", "e")]
    return loaded(tmp_path_factory.mktemp("keys"), *keys)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("named", [True, False])
def test_every_listed_algorithm_is_accepted(tmp_path: Path, algorithm: str, named: bool) -> None:
    fields = {"alg": algorithm, "use": "sig"} if named else {}
    tokens = loaded(tmp_path, public_jwk(algorithm, "a") | fields)
    content = claims()
    found = tokens.find(sign(content, algorithm))
    assert tokens.trusts(found.signer)
    assert replace(found, signer="") == Principal("acme", Role.WRITE, "token ann", content["exp"] + 30)


def test_a_key_is_used_with_its_own_algorithms_only(tmp_path: Path) -> None:
    keys = [
        public_jwk("RSA", "any"),
        public_jwk("RSA", "named", number=1, alg="RS512"),
        public_jwk("ES256", "p-256"),
        jwk(ed448.Ed448PrivateKey.generate().public_key(), "ed448"),
    ]
    tokens = loaded(tmp_path, *keys)
    tokens.find(sign(claims(), "RS512", "named", 1))
    assert "ask for one with RS512" in refusal(tokens, sign(claims(), "RS256", "named", 1))
    assert "'ES384'" in refusal(tokens, sign(claims(), "ES384", "p-256"))
    assert "'EdDSA'" in refusal(tokens, sign(claims(), "EdDSA", "any"))
    assert "'RS256'" in refusal(tokens, sign(claims(), "RS256", "p-256"))


def test_ed448_is_accepted(tmp_path: Path) -> None:
    key = ed448.Ed448PrivateKey.generate()
    assert loaded(tmp_path, jwk(key.public_key(), "a")).find(sign(claims(), key=key)).tenant == "acme"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_hmac_secret(tmp_path: Path, algorithm: str) -> None:
    public = public_jwk("RSA", "a")
    tokens = loaded(tmp_path, public)
    pem = private_key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, json.dumps(public).encode(), decoded(public["n"]), b""):
        token = assembled({"alg": algorithm, "kid": "a"}, partial(mac, algorithm, secret))
        assert f"'{algorithm}'" in refusal(tokens, token)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, "ES256K", ["EdDSA"], 7])
def test_an_unsigned_token_or_one_of_another_algorithm_is_refused(tokens: Tokens, name: Any) -> None:
    refusal(tokens, assembled({"alg": name, "kid": "a"}, private_key("EdDSA").sign))
    refusal(tokens, assembled({"alg": name, "kid": "a"}, lambda _: b""))


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


def test_the_kid_picks_the_key(tmp_path: Path) -> None:
    tokens = loaded(tmp_path, public_jwk("EdDSA", "a"), public_jwk("EdDSA", "b", 1), public_jwk("RSA", "a"))
    tokens.find(sign(claims(), kid="a"))
    tokens.find(sign(claims(), kid="b", number=1))
    tokens.find(sign(claims(), "RS256", kid="a"))
    assert "wrong signature" in refusal(tokens, sign(claims(), kid="b"))
    assert "names the key 'c'" in refusal(tokens, sign(claims(), kid="c"))
    assert "names no key" in refusal(tokens, sign(claims(), kid=None))


def test_the_only_key_needs_no_kid(tmp_path: Path) -> None:
    named = loaded(tmp_path, public_jwk("EdDSA", "a"), public_jwk("RSA", "e", use="enc"))
    named.find(sign(claims(), kid=None))
    unnamed = loaded(tmp_path, public_jwk("EdDSA"))
    unnamed.find(sign(claims(), kid=None))
    refusal(unnamed, sign(claims(), kid="a"))


FAR_AHEAD = 4_000_000_000
CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"exp": None}, "lacks the claim 'exp'"),
    ({"iss": None}, "lacks the claim 'iss'"),
    ({"aud": None}, "lacks the claim 'aud'"),
    ({"iss": "https://issuer"}, f"ask '{ISSUER}'"),
    ({"iss": [ISSUER]}, f"ask '{ISSUER}'"),
    ({"aud": "state"}, "ask for one for 'statecast'"),
    ({"aud": ["other"]}, "ask for one for 'statecast'"),
    ({"aud": [7, AUDIENCE]}, "another audience"),
    ({"nbf": FAR_AHEAD}, "not valid yet"),
    ({"iat": FAR_AHEAD}, "not valid yet"),
    ({"nbf": "soon"}, "malformed"),
    ({"exp": "soon"}, "malformed"),
    ({"exp": str(FAR_AHEAD)}, "no time in seconds"),
    ({"exp": 10**400}, "no time in seconds"),
    ({"exp": float("inf")}, "malformed"),
    ({"exp": float("nan")}, "malformed"),
    ({"sub": 7}, "malformed"),
    ({"tenant": None}, "no usable claim 'tenant'"),
    ({"tenant": ["acme"]}, "no usable claim 'tenant'"),
    ({"tenant": "Acme"}, "tenant 'Acme' is not"),
    ({"tenant": "a" * 9_000}, "is not 1 to 64 of"),
    ({"role": None}, "no usable claim 'role'"),
    ({"role": []}, "no usable claim 'role'"),
    ({"role": ["owner", 7, ["admin"], {}]}, "no usable claim 'role'"),
    ({"role": "owner"}, "role 'owner' is not one of read, write, admin"),
    ({"role": "admin" + " " * 9_000}, "is not one of read, write, admin"),
]


@pytest.mark.parametrize(("changes", "why"), CLAIMS, ids=lambda value: str(value)[:40])
def test_a_wrong_claim_is_named(tokens: Tokens, changes: dict[str, Any], why: str) -> None:
    assert why in refusal(tokens, sign(claims(**changes)))


def test_an_audience_may_be_one_of_several(tokens: Tokens) -> None:
    assert tokens.find(sign(claims(aud=["other", AUDIENCE]))).tenant == "acme"


def test_times_have_a_leeway(tmp_path: Path) -> None:
    now = time.time()
    late, early = sign(claims(exp=now - 60)), sign(claims(nbf=now + 60, iat=now + 60))
    lenient, strict = (loaded(tmp_path, public_jwk("EdDSA", "a"), leeway_seconds=each) for each in (120, 5))
    assert lenient.find(late).expires_at == pytest.approx(now - 60 + 120)
    lenient.find(early)
    assert "has expired" in refusal(strict, late, Reason.CREDENTIAL_EXPIRED)
    assert "not valid yet" in refusal(strict, early)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sub": "ann"}, "token ann"),
        ({"sub": None, "jti": "7"}, "token 7"),
        ({"sub": ""}, "token without subject"),
        ({"sub": "a" * 200}, "token " + "a" * 94),
        ({"sub": "ann\nerror: \ud800"}, r"token 'ann\nerror: \ud800'"),
    ],
)
def test_a_principal_is_named_by_its_subject(tokens: Tokens, changes: dict[str, Any], name: str) -> None:
    assert tokens.find(sign(claims(**changes))).name == name


@pytest.mark.parametrize(
    ("content", "role"),
    [
        ({"realm_access": {"roles": ["offline_access", "read", "admin", "write"]}}, Role.ADMIN),
        ({"realm_access": {"roles": "read"}}, Role.READ),
        ({"realm_access.roles": "write", "realm_access": {"roles": "admin"}}, Role.WRITE),
        ({"realm_access": ["roles"]}, None),
        ({"realm_access": "roles"}, None),
        ({"realm_access": {}}, None),
    ],
)
def test_a_dotted_name_leads_into_nested_claims(tmp_path: Path, content: dict[str, Any], role: Role | None) -> None:
    tokens = loaded(tmp_path, public_jwk("EdDSA", "a"), role_claim="realm_access.roles", tenant_claim="org.id")
    token = sign(claims(tenant=None, org={"id": "acme"}, **content))
    if role is None:
        assert "no usable claim 'realm_access.roles'" in refusal(tokens, token)
    else:
        assert tokens.find(token).role == role


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["b64"], "b64": True},
        {"crit": ["exp"], "exp": 7},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": None},
        {"crit": "b64"},
        {"kid": 7},
    ],
)
def test_a_critical_header_is_refused(tokens: Tokens, header: dict[str, Any]) -> None:
    token = assembled({"alg": "EdDSA", "kid": "a"} | header, private_key("EdDSA").sign)
    assert ("'crit'" if header.get("b64") else "malformed") in refusal(tokens, token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "é.é.é",
        "\ud800.a.b",
        "e30.e30.e30",
        f"{encoded(b'[' * 9_000)}.e30.e30",
    ],
)
def test_other_text_is_malformed(tokens: Tokens, token: str) -> None:
    with pytest.raises(Unauthenticated, match=r"send it exactly as it was issued|does not fit|names no key"):
        tokens.find(token)


def test_the_longest_token_has_16_kib(tokens: Tokens) -> None:
    lengths = {len(sign(claims(fill="x" * size))): size for size in (11_000, 11_001, 11_002)}
    shortest = min(lengths)
    size = 11_000 + (LONGEST_TOKEN - shortest) * 3 // 4
    assert LONGEST_TOKEN - 4 <= len(sign(claims(fill="x" * size))) <= LONGEST_TOKEN
    tokens.find(sign(claims(fill="x" * size)))
    assert "longer than 16 KiB" in refusal(tokens, sign(claims(fill="x" * (size + 8))))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


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
    assert module._keys_of(content, "jwks.json", may_be_empty=False)[-1].kid == "good"


@settings(max_examples=200)
@given(
    changes=st.dictionaries(
        st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "tenant", "role"]), JSON, max_size=3
    )
)
def test_any_signed_claims_give_a_principal_or_a_refusal(shared: Tokens, changes: dict[str, Any]) -> None:
    with suppress(Unauthenticated):
        assert shared.find(sign(claims() | changes)).tenant == (claims() | changes)["tenant"]


@cache
def valid_tokens() -> list[str]:
    return [sign(claims(), "EdDSA", "a"), sign(claims(), "RS256", "r"), sign(claims(), "PS256", "r"),
            sign(claims(), "ES256", "e")]  # fmt: skip


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """Change a valid token."""
    token = draw(st.sampled_from(valid_tokens()))
    header, payload, signature = token.split(".")
    kind = draw(st.sampled_from(["replace", "insert", "delete", "cut", "alg", "unsigned", "key", "swap"]))
    at = draw(st.integers(0, len(token) - 1))
    if kind in ("replace", "insert"):
        byte = draw(st.characters(codec="ascii") | st.sampled_from("=.-_Aa"))
        return token[:at] + byte + token[at + (kind == "replace") :]
    if kind == "delete":
        return token[:at] + token[at + 1 :]
    if kind == "cut":
        return token[:at]
    if kind == "unsigned":
        return f"{header}.{payload}.{draw(st.sampled_from(['', 'AA', 'A' * len(signature), '=' * 4]))}"
    if kind == "swap":
        return ".".join([header, payload, draw(st.sampled_from(valid_tokens())).split(".")[2]])
    algorithm = draw(st.sampled_from([*ALGORITHMS, "none", "HS256"]))
    if kind == "alg":
        fields = jwt.get_unverified_header(token) | {"alg": algorithm}
        return f"{encoded(json.dumps(fields, separators=(',', ':')).encode())}.{payload}.{signature}"
    algorithm = draw(st.sampled_from(ALGORITHMS))
    return sign(claims(), algorithm, draw(st.sampled_from(["a", "r", "e"])), number=9)


@settings(max_examples=400)
@given(mutant=mutations())
def test_no_changed_token_is_accepted(shared: Tokens, mutant: str) -> None:
    for token in valid_tokens():
        shared.find(token)
    if mutant not in valid_tokens():
        with pytest.raises(Unauthenticated):
            shared.find(mutant)


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens whose signatures were checked."""
    seen: list[str] = []
    decode = jwt.decode

    def counting(token: str, **options: Any) -> Any:
        seen.append(token)
        return decode(token, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    return seen


def test_a_signature_is_checked_once(tokens: Tokens, verifications: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    token, exp = sign(claims()), claims()["exp"]
    assert tokens.find(token) is tokens.find(token)
    assert verifications == [token]
    monkeypatch.setattr(time, "time", lambda: exp + 29.0)
    tokens.find(token)
    monkeypatch.setattr(time, "time", lambda: exp + 31.0)
    assert "has expired" in refusal(tokens, token, Reason.CREDENTIAL_EXPIRED)
    assert verifications == [token]


def test_wrong_tokens_are_not_remembered(tokens: Tokens, verifications: list[str]) -> None:
    token = sign(claims(role="owner"))
    for _ in range(2):
        refusal(tokens, token)
    assert verifications == [token, token]


def test_the_tokens_used_last_are_remembered(
    tokens: Tokens, verifications: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERIFIED_TOKENS", 2)
    first, second, third = (sign(claims(sub=each)) for each in "abc")
    for token in (first, second, first, third, first, second):
        tokens.find(token)
    assert verifications == [first, second, third, second]


@pytest.mark.parametrize(("issuer", "audience", "name"), [("", AUDIENCE, "issuer"), (ISSUER, "", "audience")])
def test_issuer_and_audience_are_needed(issuer: str, audience: str, name: str) -> None:
    with pytest.raises(StartupError, match=f"jwt-{name} is empty"):
        Tokens(TokenSettings("keys.json", issuer, audience))


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
    monkeypatch.setattr(module, "FETCH_SECONDS", 1.0)
    server.drips = True
    assert "cannot be fetched: it took longer than 1 s" in await load_error(server.url)
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.1)
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


def is_accepted(tokens: Tokens, token: str) -> bool:
    try:
        return bool(tokens.find(token))
    except Unauthenticated:
        return False


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
    monkeypatch.setattr(module, "FILE_SECONDS", 0.01)
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
    monkeypatch.setattr(module, "FILE_SECONDS", 0.01)
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
    monkeypatch.setattr(module, "MISS_SECONDS", 0.3)
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
    keys = module._Keys(server.url)
    assert await keys.update()
    assert keys.pause_seconds == pause
    assert not await keys.update()


async def test_find_does_not_wait_for_the_keys(server: KeyServer) -> None:
    tokens = Tokens(TokenSettings(server.url, ISSUER, AUDIENCE))
    assert "lacks" in refusal(tokens, sign(claims()))
    assert server.asked == []
