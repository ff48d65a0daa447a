"""Converts messages about sessions to the engine's requests, and its outcomes to messages."""

from collections.abc import Mapping
from functools import lru_cache

from statecast.model import TimeZoneError, Zone
from statecast.service.binding import Binding
from statecast.service.engine.request import Fork, Opening, Outcome, Request, Upgrade
from statecast.service.errors import InvalidRequest, quoted
from statecast.service.rpc.fields import (
    MAX_SESSION_ID_CHARACTERS,
    check_length,
    from_milliseconds,
    from_nanoseconds,
    from_version,
    to_frequency,
    to_max_ahead_ms,
    to_model_name,
    to_model_reference,
    to_nanoseconds,
    to_numbers,
    to_request_id,
    to_session_id,
    to_times,
    to_ttl_ms,
    to_version,
    to_zone,
)
from statecast.service.store.catalog import Listing, Summary
from statecast.service.store.cluster import SLOTS
from statecast.service.store.record import Snapshot
from statecast.service.store.scripts import CURSORS
from statecast.service.version import Version
from statecast.v1 import forecast_pb2, forecast_service_pb2

MAX_CATEGORIES = 100
MAX_CATEGORY_CHARACTERS = 256
USUAL_PAGE, LARGEST_PAGE = 100, 1000
LONGEST_REMEMBERED = 1024
"""Longest options to cache, in bytes: unknown fields may make them any length."""
MAX_CURSOR = SLOTS * CURSORS - 1


def to_opening(options: forecast_pb2.OpenOptions, field: str) -> Opening:
    """Return the options for opening a session; `field` is their place in the request."""
    data = options.SerializeToString()
    return _remembered(data, field) if len(data) <= LONGEST_REMEMBERED else _opening(data, field)


def _opening(data: bytes, field: str) -> Opening:
    options = forecast_pb2.OpenOptions.FromString(data)
    model, alias = to_model_reference(options.model, options.model_version, f"{field}.model")
    return Opening(
        model,
        to_model_name(options.model_version, f"{field}.model_version"),
        to_ttl_ms(options.time_to_live, f"{field}.time_to_live") if options.HasField("time_to_live") else None,
        _categories(options.categories, f"{field}.categories"),
        field,
        to_zone(options.time_zone, f"{field}.time_zone"),
        to_max_ahead_ms(options.max_ahead, f"{field}.max_ahead") if options.HasField("max_ahead") else None,
        frequency=to_frequency(options.frequency, f"{field}.frequency"),
        alias=alias,
        upgrade=options.upgrade,
    )


_remembered = lru_cache(maxsize=4096)(_opening)
"""Cached, since every request may carry the options of its session."""


def to_closing(message: forecast_service_pb2.CloseSessionRequest, tenant: str) -> Request:
    """Return the request of a CloseSession call of a tenant."""
    if_version = to_version(message.if_version) if message.HasField("if_version") else None
    return Request(to_session_id(message.session_id), if_version=if_version, close=True, tenant=tenant)


def to_upgrade(message: forecast_service_pb2.UpgradeSessionRequest, tenant: str) -> Request:
    """Return the request of an UpgradeSession call of a tenant."""
    has, observed = message.HasField, message.observations
    if has("since") and not observed.values:
        raise InvalidRequest("since", "given without observations; leave it out, or send those since then")
    model, alias = to_model_reference(message.model, message.model_version, "model")
    version = to_model_name(message.model_version, "model_version")
    has_start = observed.HasField("start_time")
    return Request(
        to_session_id(message.session_id),
        values=to_numbers(observed.values, "observations.values"),
        covariates=to_numbers(observed.covariates, "observations.covariates"),
        target_count=observed.targets,
        start_time=to_nanoseconds(observed.start_time, "observations.start_time") if has_start else None,
        times=to_times(observed.times, len(observed.values), "observations.times"),
        request_id=to_request_id(message.request_id),
        if_version=to_version(message.if_version) if has("if_version") else None,
        last_seen=to_version(message.last_seen) if has("last_seen") else None,
        tenant=tenant,
        upgrade=Upgrade(model, version, alias, to_version(message.since)),
    )


def to_fork(message: forecast_service_pb2.ForkSessionRequest, tenant: str) -> tuple[Request, Request]:
    """Return the two requests of a tenant's ForkSession call: to the source, and to the new session."""
    source_id = to_session_id(message.source_session_id, "source_session_id")
    if_version = to_version(message.if_version) if message.HasField("if_version") else None
    ttl_ms = to_ttl_ms(message.time_to_live, "time_to_live") if message.HasField("time_to_live") else None
    target = Request(
        to_session_id(message.session_id),
        request_id=to_request_id(message.request_id),
        fork=Fork(source_id, ttl_ms=ttl_ms),
        tenant=tenant,
    )
    last_seen = to_version(message.last_seen) if message.HasField("last_seen") else None
    return Request(source_id, if_version=if_version, last_seen=last_seen, copy=True, tenant=tenant), target


def to_listing(message: forecast_service_pb2.ListSessionsRequest, tenant: str) -> Listing:
    """Return the page that a ListSessions call of a tenant asks for."""
    if message.page_size > LARGEST_PAGE:
        raise InvalidRequest("page_size", f"{message.page_size} is more than {LARGEST_PAGE}")
    cursor = to_cursor(message.page_token, "page")
    check_length(message.prefix, MAX_SESSION_ID_CHARACTERS, "prefix")
    return Listing(tenant, message.prefix, cursor, message.page_size or USUAL_PAGE)


def to_cursor(token: str, giver: str) -> int:
    """Return where a listing or an export goes on; `giver` is what gives the tokens."""
    is_number = len(token) <= len(str(MAX_CURSOR)) and token.isascii() and token.isdigit()
    if token and not (is_number and int(token) <= MAX_CURSOR):
        raise InvalidRequest("page_token", f"not the next_page_token of an earlier {giver}")
    return int(token or "0")


def from_outcome(session_id: str, outcome: Outcome) -> forecast_pb2.Session:
    """Return the session after a request that has not closed it, for the wire."""
    if outcome.standing is None:
        raise ValueError(f"session {session_id!r} is gone")
    standing = outcome.standing
    return _session(
        session_id,
        standing.model.labels,
        outcome.version,
        standing.ttl_ms,
        standing.last_instant,
        standing.categories,
        standing.zone.name,
        standing.max_ahead_ms,
        standing.own_frequency.alias if standing.own_frequency else "",
        standing.binding,
    )


def from_summary(summary: Summary) -> forecast_pb2.Session:
    """Return a listed session for the wire."""
    if summary.record is None:
        return forecast_pb2.Session(session_id=summary.session_id)
    snapshot, newest = summary.record.snapshot, summary.record.newest
    return _session(
        summary.session_id,
        (snapshot.model, snapshot.model_version),
        newest.version,
        snapshot.ttl_ms,
        _last_instant(snapshot, newest.last_time),
        snapshot.categories,
        snapshot.time_zone,
        snapshot.max_ahead_ms,
        snapshot.frequency,
        snapshot.binding,
    )


def _last_instant(snapshot: Snapshot, last_time: int | None) -> int | None:
    """Return the instant of the session's last step, from its record; None if unknown."""
    if last_time is None or not snapshot.is_on_wall_clock:
        return last_time
    try:
        return Zone.parse(snapshot.time_zone).instant(last_time)
    except TimeZoneError:
        return None


def _categories(categories: Mapping[str, str], field: str) -> dict[str, str]:
    if len(categories) > MAX_CATEGORIES:
        raise InvalidRequest(field, f"{len(categories)} categories are more than {MAX_CATEGORIES}")
    for name, value in categories.items():
        check_length(name, MAX_CATEGORY_CHARACTERS, f"{field}[{quoted(name)}]")
        check_length(value, MAX_CATEGORY_CHARACTERS, f"{field}[{quoted(name)}]")
    return dict(categories)


def _session(
    session_id: str,
    model: tuple[str, str],
    version: Version | None,
    ttl_ms: int,
    last_time: int | None,
    categories: Mapping[str, str],
    time_zone: str,
    max_ahead_ms: int | None,
    frequency: str,
    binding: Binding | None,
) -> forecast_pb2.Session:
    return forecast_pb2.Session(
        session_id=session_id,
        model=model[0],
        model_version=model[1],
        version=from_version(version),
        time_to_live=from_milliseconds(ttl_ms),
        last_time=from_nanoseconds(last_time),
        categories=categories,
        time_zone=time_zone,
        max_ahead=None if max_ahead_ms is None else from_milliseconds(max_ahead_ms),
        frequency=frequency,
        alias=binding.alias if binding else "",
    )
