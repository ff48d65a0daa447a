"""The caller as the server knows it: a tenant, and a role in it."""

import re
from dataclasses import dataclass, field
from enum import IntEnum

from statecast.service.session_key import DEFAULT_TENANT

TENANT = re.compile(r"[a-z0-9-]{1,64}")


class Role(IntEnum):
    """What a caller may do; each role includes those before it."""

    READ = 1
    """Look at sessions and models, list them, and forecast without observing."""
    WRITE = 2
    """Also open, fork and close sessions, and append observations."""
    ADMIN = 3
    """Also export and import sessions, and read the server's metrics, which cover all tenants."""


ROLES = {role.name.lower(): role for role in Role}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller.

    Attributes:
        tenant: The tenant whose sessions the caller sees.
        role: What the caller may do.
        name: The credential, for logs: never a secret.
        expires_at: When the credential expires, in seconds since 1970; None if it does not.
        key_id: Id of the caller's API key; empty for other credentials.
        signer: Digest of the key that has signed the caller's token; empty for other credentials.
        may_write: True if the caller may open, fork and close sessions, and append observations.
    """

    tenant: str
    role: Role
    name: str
    expires_at: float | None = None
    key_id: str = ""
    signer: str = ""
    may_write: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "may_write", self.role >= Role.WRITE)


ANYBODY = Principal(DEFAULT_TENANT, Role.ADMIN, "anybody")
"""Every caller of a server without authentication."""
STRANGER = Principal("", Role.READ, "")
"""A caller who was not admitted."""


def principal_of(
    tenant: object,
    role: object,
    name: str,
    expires_at: float | None = None,
    *,
    key_id: str = "",
    signer: str = "",
) -> Principal:
    """Return the principal with a tenant and a role from a file or token.

    Raises:
        ValueError: if one of them is not valid; the message says which.
    """
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
        raise ValueError(f"tenant {tenant!r} is not 1 to 64 of a-z, 0-9 and -")
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(ROLES)}")
    return Principal(tenant, ROLES[role], name, expires_at, key_id, signer)
