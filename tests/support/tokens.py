"""JSON Web Tokens and keys for tests, and the server's verifier of them."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from statecast.service.access.tokens import Tokens, TokenSettings
from statecast.service.errors import Unauthenticated
from statecast.v1.reasons import Reason

ISSUER, AUDIENCE = "https://issuer.example", "statecast"
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", *CURVES, "EdDSA"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
"""Any value of JSON."""


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


def is_accepted(tokens: Tokens, token: str) -> bool:
    try:
        return bool(tokens.find(token))
    except Unauthenticated:
        return False
