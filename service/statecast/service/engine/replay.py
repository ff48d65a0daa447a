"""Brings states that were read from Redis into memory: unpacks the snapshots, and replays the steps since then."""

import logging
from collections.abc import Sequence

from statecast.model import State
from statecast.service.engine.advance import needs_state
from statecast.service.engine.inputs import STEPS_AT_ONCE, Inputs, bucket, categories_of, traces
from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.session_loading import Loaded
from statecast.service.engine.standing import Session
from statecast.service.engine.table import Table
from statecast.service.models.registry import Model

log = logging.getLogger(__name__)


def enter(table: Table, cache: SessionCache) -> None:
    """Put the sessions that were read and whose states are needed into memory.

    A failure is that of all sessions replayed at once.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for row in table.rows:
        session = table.sessions[row]
        if session is not None and row in table.cold and needs_state(table, row):
            groups.setdefault((session.standing.model.digest, bucket(session.replayed)), []).append(row)
    for rows in groups.values():
        sessions = [session for row in rows if (session := table.sessions[row])]
        model = sessions[0].standing.model
        try:
            cache.write(model, sessions, _replayed(model, sessions, [table.cold[row] for row in rows]))
        except Exception as error:
            log.exception("a batch of %d sessions could not be replayed", len(rows))
            for row in rows:
                table.fail(row, error)


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
