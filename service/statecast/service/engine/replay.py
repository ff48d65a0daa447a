"""Brings sessions that were read from Redis into memory: unpacks their snapshots, and replays the steps since then."""

import logging
from collections.abc import Mapping, Sequence

from statecast.model import State
from statecast.service.engine.inputs import STEPS_AT_ONCE, Inputs, bucket, categories_of, traces
from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.session_loading import Loaded
from statecast.service.engine.standing import Session
from statecast.service.engine.table import Table
from statecast.service.models.registry import Model

log = logging.getLogger(__name__)


def enter(table: Table, found: Mapping[int, Loaded], cache: SessionCache) -> None:
    """Put what was found for some rows into memory; a failure is that of all sessions replayed at once."""
    groups: dict[tuple[str, int], list[int]] = {}
    for row, loaded in found.items():
        if session := loaded.session:
            groups.setdefault((session.standing.model.digest, bucket(session.replayed)), []).append(row)
    for rows in groups.values():
        sessions = [session for row in rows if (session := found[row].session)]
        model = sessions[0].standing.model
        try:
            cache.write(model, sessions, _replayed(model, sessions, [found[row] for row in rows]))
        except Exception as error:
            log.exception("a batch of %d sessions could not be replayed", len(rows))
            for row in rows:
                table.fail(row, error)
        else:
            for row, session in zip(rows, sessions, strict=True):
                table.sessions[row] = session
                table.fresh.add(row)


def _replayed(model: Model, sessions: Sequence[Session], loaded: Sequence[Loaded]) -> State:
    """Return the states of sessions of one model after their last steps."""
    state = model.forecaster.layout.unpack([each.state for each in loaded], model.forecaster.device)
    if not any(session.replayed for session in sessions):
        return state
    inputs = Inputs.of(
        model,
        [session.replayed for session in sessions],
        [each.replay for each in loaded],
        [session.standing.last_time for session in sessions],
        categories_of(model, (session.standing.categories for session in sessions)),
    )
    for _, trace, _ in traces(model, state, inputs, max(1, STEPS_AT_ONCE // len(sessions))):
        state = trace.state
    return state
