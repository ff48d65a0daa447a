"""Tokens are accepted with the right key, algorithm and claims only."""

import json
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tokens import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    JSON,
    assembled,
    claims,
    decoded,
    encoded,
    jwk,
    loaded,
    mac,
    private_key,
    public_jwk,
    refusal,
    sign,
)

from statecast.service.access import tokens as module
from statecast.service.access.principal import Principal, Role
from statecast.service.access.tokens import LONGEST_TOKEN, Tokens, TokenSettings
from statecast.service.errors import StartupError, Unauthenticated
from statecast.v1.reasons import Reason


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
