"""The configuration that Envoy is started with."""

import re
from pathlib import Path
from typing import Any

from statecast.service.envoy.secrets import NODE, transport_socket
from statecast.service.errors import StartupError
from statecast.service.settings import Settings
from statecast.service.transport.place import Place, resolve

APP = "statecast.service.envoy.inside:app"
MIB = 1024 * 1024
KEEPALIVE_SECONDS, KEEPALIVE_TIMEOUT_SECONDS = 20, 10
"""Envoy pings its clients, to notice those that have vanished. It answers every ping of theirs."""
HEADER_KIB, HEADERS = 24, 100
STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES = 256 * 1024, 4 * MIB
BUFFER_BYTES = 256 * 1024
"""Bytes of a stream or connection that wait for a slow reader before its call is paused."""
REQUESTS_A_TURN = 8
"""Requests of one connection that are taken before others have their turn."""
_HEX, _NEXT = "[0-9A-Fa-f]", "%[89ABab][0-9A-Fa-f]"
_CHARACTERS = (
    "[!-$&-~]",
    f"%[0-7]{_HEX}",
    f"%(?:[Cc][2-9A-Fa-f]|[Dd]{_HEX}){_NEXT}",
    f"%(?:[Ee]0%[ABab]{_HEX}|[Ee][1-9A-Ca-cEFef]{_NEXT}|[Ee][Dd]%[89]{_HEX}){_NEXT}",
    f"%(?:[Ff]0%[9ABab]{_HEX}|[Ff][1-3]{_NEXT}|[Ff]4%8{_HEX}){_NEXT}{_NEXT}",
)
PATH = f"^/(?:{'|'.join(_CHARACTERS)})*$"
"""Paths that are passed on: those that can be decoded, since all that is encoded with percent signs is UTF-8."""
RESET_STREAMS = 10_000
"""Streams on a connection before it counts as an attack that half of them were reset at once."""
JITTER = {"value": 20.0}
"""Percent by which a connection's age may be longer, so that not all of them reconnect at once."""
LISTENER = "grpc"
WEB_REQUEST_HEADERS = (
    "content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "authorization", "x-statecast-session",
)  # fmt: skip
WEB_RESPONSE_HEADERS = ("grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after")
WEB_SECONDS = 600
"""How long a browser may remember that a page of another origin may call."""
_FORWARDS_CERTIFICATES = {
    "forward_client_cert_details": "SANITIZE_SET",
    "set_current_client_cert_details": {"cert": True},
}
_ALLOWS_PATHS = {
    "action": "ALLOW",
    "policies": {
        "paths": {
            "permissions": [{"url_path": {"path": {"safe_regex": {"regex": PATH}}}}],
            "principals": [{"any": True}],
        }
    },
}
_NO_PATH = {
    "filter": {
        "and_filter": {
            "filters": [
                {"status_code_filter": {"comparison": {"value": {"default_value": 403, "runtime_key": "none"}}}},
                {
                    "header_filter": {
                        "header": {
                            "name": "content-type",
                            "string_match": {"prefix": "application/grpc"},
                            "invert_match": True,
                            "treat_missing_header_as_empty": True,
                        }
                    }
                },
            ]
        }
    },
    "status_code": 400,
    "body_format_override": {
        "json_format": {
            "code": 3,
            "message": "the path cannot be decoded; encode names in it as UTF-8, then with percent signs",
            "details": [],
        }
    },
}
"""Makes the refusal of a path one of HTTP/JSON, unless it is one of gRPC."""
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+")


def configuration(settings: Settings, admin: Path, app: str = APP) -> dict[str, Any]:
    """Return Envoy's bootstrap configuration, as JSON has it.

    Args:
        settings: The server's settings.
        admin: Path of the unix socket of Envoy's admin interface.
        app: The server, as module:name.
    """
    return {
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        **({"node": NODE} if settings.tls_cert else {}),
        "static_resources": {"listeners": [_listener(settings, admin.parent, app)]},
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {
                        # A connection of so many streams, of which half were reset within a second, is cut off.
                        "http.max_requests_per_io_cycle": REQUESTS_A_TURN,
                        "overload.premature_reset_total_stream_count": RESET_STREAMS,
                        # The other codec cuts it off after 1,000 resets and 33 a second, as of calls that expire.
                        "envoy.reloadable_features.http2_use_oghttp2": True,
                    },
                }
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors"
                        ".downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": settings.max_connections,
                    },
                }
            ]
        },
    }


def _listener(settings: Settings, folder: Path, app: str) -> dict[str, Any]:
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": _ip(settings), "port_value": settings.port}},
        "enable_reuse_port": False,  # else a second server could take the port by mistake
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [
            {
                **({"transport_socket": tls(settings, folder)} if settings.tls_cert else {}),
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {"@type": manager, **_connections(settings, app)},
                    }
                ],
            }
        ],
    }


def tls(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return the part of a listener that makes it speak TLS with the certificates that the settings name."""
    return transport_socket(folder, asks_clients=settings.tls_client_ca is not None)


def _ip(settings: Settings) -> str:
    """Return the address of the host, which may be a name; Envoy takes none."""
    _, where = resolve(Place(settings.host, settings.port))
    return str(where[0])


def _connections(settings: Settings, app: str) -> dict[str, Any]:
    age = settings.max_connection_age_seconds
    return {
        "stat_prefix": LISTENER,
        "codec_type": "AUTO",  # HTTP/1.1 for gRPC-Web and HTTP/JSON
        "route_config": {"virtual_hosts": [{"name": LISTENER, "domains": ["*"], **_origins(settings)}]},
        "http_filters": [
            *([_filter("cors", "cors.v3.Cors")] if settings.web_origins else []),
            _filter("rbac", "rbac.v3.RBAC", rules=_ALLOWS_PATHS),
            _filter("grpc_web", "grpc_web.v3.GrpcWeb"),
            _python(app),
        ],
        "http2_protocol_options": {
            "max_concurrent_streams": settings.max_concurrent_calls,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
            "connection_keepalive": {
                "interval": f"{KEEPALIVE_SECONDS}s",
                "timeout": f"{KEEPALIVE_TIMEOUT_SECONDS}s",
            },
        },
        "common_http_protocol_options": {
            "idle_timeout": "0s",
            "max_headers_count": HEADERS,
            **({"max_connection_duration": f"{age:g}s", "max_connection_duration_jitter": JITTER} if age else {}),
        },
        "max_request_headers_kb": HEADER_KIB,
        # A stream may be silent for as long as its client likes; deadlines are the call's own.
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "10s",
        "generate_request_id": False,
        # A caller's address is that of its connection, whatever its headers say.
        "use_remote_address": True,
        "skip_xff_append": True,
        **(_FORWARDS_CERTIFICATES if settings.tls_client_ca else {}),
        "local_reply_config": {"mappers": [_NO_PATH]},
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": False,
        "drain_timeout": "1s",
    }


def _origins(settings: Settings) -> dict[str, Any]:
    """Return what a virtual host needs for pages of the allowed origins."""
    origins = [each.strip() for each in settings.web_origins.split(",")] if settings.web_origins else []
    for each in origins:
        if each != "*" and not _ORIGIN.fullmatch(each):
            raise StartupError(
                f"web-origins: {each!r} is not an origin such as https://app.example.org or http://localhost:8080; a "
                "path does not belong to it"
            )
    if not origins:
        return {}
    policy = {
        "allow_origin_string_match": [{"exact": each} for each in origins],
        "allow_methods": "GET,POST,DELETE",
        "allow_headers": ",".join(WEB_REQUEST_HEADERS),
        "expose_headers": ",".join(WEB_RESPONSE_HEADERS),
        "max_age": str(WEB_SECONDS),
    }
    cors = _filter("cors", "cors.v3.CorsPolicy", **policy)
    return {
        "routes": [{"match": {"prefix": "/"}, "non_forwarding_action": {}}],  # the filter asks for a route
        "typed_per_filter_config": {cors["name"]: cors["typed_config"]},
    }


def _filter(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    full = f"type.googleapis.com/envoy.extensions.filters.http.{kind}"
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": full, **fields}}


def _python(app: str) -> dict[str, Any]:
    """Return the filter that hands requests to this program, as pyvoy configures it."""
    from pyvoy import PyvoyServer  # only where this transport is used

    config = PyvoyServer(app, lifespan=True, loop="uvloop", worker_threads=1).get_envoy_config()
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    python: dict[str, Any] = manager["http_filters"][-1]
    return python
