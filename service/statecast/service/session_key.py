"""The key of a session within a server: its id alone for the default tenant, else its tenant and its id.

Keys name sessions in memory and in the checksums of records. Ids consist of printable characters, and tenants of
letters, digits and hyphens, so two sessions never share a key.
"""

DEFAULT_TENANT = "default"
SEPARATOR = "\0"


def session_key(tenant: str, session_id: str) -> str:
    """Return the key of a tenant's session."""
    return session_id if tenant == DEFAULT_TENANT else f"{tenant}{SEPARATOR}{session_id}"


def id_of(key: str) -> str:
    """Return the session's id, by which its caller knows it."""
    return key.rpartition(SEPARATOR)[2]


def tenant_of(key: str) -> str:
    """Return the session's tenant."""
    tenant, separator, _ = key.partition(SEPARATOR)
    return tenant if separator else DEFAULT_TENANT
