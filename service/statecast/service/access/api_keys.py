"""API keys: `sck_<id>_<secret>`, of which a file holds the id, a salted SHA-256 of the secret, tenant and role."""

import fcntl
import hashlib
import hmac
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from statecast.service.access.principal import Principal, principal_of

PREFIX = "sck_"
SECRET_BYTES, SALT_BYTES, ID_BYTES = 32, 16, 6
_KEY = re.compile(rf"{PREFIX}([0-9a-f]{{{2 * ID_BYTES}}})_([A-Za-z0-9_-]{{43}})")
DAY_SECONDS = 86_400


class KeyFileError(Exception):
    """The file of API keys cannot be used; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, without its secret. Times are in seconds since 1970; without `expires_at` it does not expire."""

    tenant: str
    role: str
    salt: str
    sha256: str
    created_at: float
    expires_at: float | None = None
    note: str = ""


class ApiKeys:
    """The keys of a file, by id."""

    def __init__(self, keys: dict[str, ApiKey]) -> None:
        """Take keys whose tenants and roles are valid.

        Raises:
            ValueError: if they are not.
        """
        self.by_id = keys
        self._principals = {
            key_id: principal_of(key.tenant, key.role, f"key {key_id}", key.expires_at, key_id=key_id)
            for key_id, key in keys.items()
        }

    @staticmethod
    def read(path: Path) -> "ApiKeys":
        """Read a file.

        Raises:
            KeyFileError: if it cannot be read.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return ApiKeys({key_id: _key_of(key_id, each) for key_id, each in content["keys"].items()})
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}; statecast keys create makes it") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise KeyFileError(f"{path} is not a file of API keys: {error}; statecast keys create makes one") from error

    def principal(self, key_id: str) -> Principal | None:
        """Return the principal of a key by its id; None if there is no such key."""
        return self._principals.get(key_id)

    def find(self, token: str) -> Principal | None:
        """Return the principal of a key, expired or not; None if the key is not one of these."""
        match = _KEY.fullmatch(token)
        if match is None:
            return None
        key = self.by_id.get(match[1])
        # A key that does not exist takes as long as a wrong one.
        salt, digest = (key.salt, key.sha256) if key else ("", "")
        if not hmac.compare_digest(_digest(salt, match[2]), digest):
            return None
        return self._principals[match[1]]


def looks_like_one(token: str) -> bool:
    """Return whether a bearer token is meant as an API key."""
    return token.startswith(PREFIX)


def create(path: Path, tenant: str, role: str, days: float | None = None, note: str = "") -> tuple[str, str]:
    """Add a key to a file, which need not exist yet; return its id and the key itself, which is kept nowhere.

    Raises:
        KeyFileError: if the file cannot be read or written.
        ValueError: if the tenant or the role is not valid.
    """
    principal_of(tenant, role, "")
    key_id, secret, salt = (
        secrets.token_hex(ID_BYTES),
        secrets.token_urlsafe(SECRET_BYTES),
        secrets.token_hex(SALT_BYTES),
    )
    now = time.time()
    expires_at = None if days is None else now + days * DAY_SECONDS
    with _changing(path) as keys:
        keys[key_id] = ApiKey(tenant, role, salt, _digest(salt, secret), now, expires_at, note)
    return key_id, f"{PREFIX}{key_id}_{secret}"


def revoke(path: Path, key_id: str) -> ApiKey:
    """Remove a key from a file and return it.

    Raises:
        KeyFileError: if the file cannot be read or written, or has no such key.
    """
    with _changing(path) as keys:
        if key_id not in keys:
            raise KeyFileError(f"{path} has no key {key_id!r}; statecast keys list shows the ids")
        return keys.pop(key_id)


def _key_of(key_id: str, entry: dict[str, Any]) -> ApiKey:
    """Return the key in an entry of a file.

    Raises:
        ValueError: if the entry is not one.
    """
    key = ApiKey(**entry)
    texts = (key.tenant, key.role, key.salt, key.sha256, key.note)
    times = (key.created_at, 0 if key.expires_at is None else key.expires_at)
    are_times = all(isinstance(each, int | float) and math.isfinite(each) for each in times)
    if not (are_times and all(isinstance(each, str) for each in texts)):
        raise ValueError(f"key {key_id!r} has a field of a wrong kind")
    return key


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, ApiKey]]:
    """Change the keys of a file, which is replaced at once; two changes at the same time follow each other."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = dict(ApiKeys.read(path).by_id) if path.exists() else {}
            yield keys
            _write(path, {"keys": {key_id: asdict(key) for key_id, key in keys.items()}})
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error


def _write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    before = path.stat() if path.exists() else None
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        if before is not None:  # the server must still be able to read it
            os.fchmod(file.fileno(), before.st_mode & 0o777)
            if (before.st_uid, before.st_gid) != (os.getuid(), os.getgid()):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
