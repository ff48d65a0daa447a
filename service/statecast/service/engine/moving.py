"""Moves sessions to other models as they are read from Redis: by request, by their alias, or by their model's policy.

A session that moves is loaded as if its record held the initial state of the new model, and the values to re-encode
after it. So the batch replays them, and writes the new state with what else it appends in one commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from statecast.model import Frequency
from statecast.service.binding import Binding
from statecast.service.engine.reencoding import for_model, given_by, joined, kept_in
from statecast.service.engine.request import Opening, Request, Upgrade
from statecast.service.engine.session_loading import (
    Loaded,
    Move,
    check_record,
    frequency_of,
    intact,
    load_record,
    open_record,
    standing_of,
)
from statecast.service.engine.standing import Session, Standing
from statecast.service.errors import PreconditionFailed, ServiceError, quoted
from statecast.service.models.registry import Model, Registry
from statecast.service.session_key import id_of
from statecast.service.shared.outline import Outline
from statecast.service.shared.outlines import Outlines
from statecast.service.store.record import Record, Snapshot
from statecast.service.store.redis_store import Stored
from statecast.v1.reasons import Reason


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a session must move, with its binding there; the request that says so, if one does."""

    model: Model
    binding: Binding | None
    request: Request | None = None


class Mover:
    """Loads sessions onto the models on which they must stand. Not thread-safe."""

    def __init__(self, registry: Registry, outlines: Outlines) -> None:
        self._registry, self._outlines = registry, outlines

    def must_move(self, session: Session, requests: Sequence[Request]) -> bool:
        """Return True if a session in memory may have to move, so that its record must be read."""
        standing = session.standing
        if session.epoch is not self._registry.epoch and _may_move(requests):
            try:
                if self._by_policy(standing.model, *standing.model.labels, standing.binding):
                    return True
            except ServiceError:  # reading the record raises it again
                return True
            session.epoch = self._registry.epoch
        for request in requests:
            if request.upgrade is not None:
                return True
            opening = request.opening
            if opening is not None and opening.upgrade and self._is_elsewhere(standing, opening):
                return True
        return False

    def load(self, key: str, stored: Stored | None, requests: Sequence[Request], *, by_policy: bool = True) -> Loaded:
        """Load a session for these requests from its record, if there is one.

        Unless `by_policy`, a session that can stay for now does so, unless a request says otherwise.

        Raises:
            ServiceError: if it can be used neither on its own model nor on the one to which it must move.
        """
        record = open_record(key, stored)
        if isinstance(record, Loaded) or stored is None:
            return record if isinstance(record, Loaded) else Loaded()
        refused: ServiceError | None = None
        if _may_move(requests) and not record.snapshot.ended and not _is_repeated(record, requests):
            try:
                if destination := self._destination(record.snapshot, requests, by_policy=by_policy):
                    return self._moved(key, record, destination, stored.remaining_ms)
            except ServiceError as error:
                refused = error.with_traceback(None)
        try:
            loaded = load_record(key, record, self._registry)
        except ServiceError as error:
            raise refused or error from error
        if refused is not None:
            if refused.reason is Reason.MODEL_LOADING:
                raise refused
            loaded.move = Move(refused=refused)
        if loaded.session is not None and by_policy:
            loaded.session.epoch = self._registry.epoch
        return loaded

    def _destination(self, snapshot: Snapshot, requests: Sequence[Request], *, by_policy: bool) -> Destination | None:
        own = snapshot.model, snapshot.model_version
        model = self._registry.find(*own)
        if model is not None and model.digest_bytes != snapshot.model_digest:
            model = None
        for request in requests:
            asked = request.upgrade or (request.opening if request.opening and request.opening.upgrade else None)
            if asked is None:
                continue
            destination = self._asked(asked, model, own[0], snapshot.binding, request)
            is_there = destination.model is model and destination.binding == snapshot.binding
            return None if is_there and not (request.upgrade and request.values.size) else destination
        return self._by_policy(model, *own, snapshot.binding) if by_policy or model is None else None

    def _by_policy(self, model: Model | None, name: str, version: str, binding: Binding | None) -> Destination | None:
        target = self._registry.destination(model, name, version, binding)
        if target is None:
            return None
        return Destination(target, self._registry.binding(name, alias=binding.alias if binding else ""))

    def _asked(
        self,
        asked: Upgrade | Opening,
        own: Model | None,
        own_name: str,
        binding: Binding | None,
        request: Request | None = None,
    ) -> Destination:
        """Return the model that is named; without any name the session's alias counts, or else the newest version.

        Args:
            asked: The names.
            own: The session's model; None if it is not loaded.
            own_name: Name of that model.
            binding: The session's binding.
            request: The request with the names.
        """
        name, alias = asked.model or own_name, asked.alias
        if not alias and not asked.model_version and name == own_name and binding is not None:
            alias = binding.alias
        model = self._registry.at_alias(name, alias) if alias else self._registry.get(name, asked.model_version)
        bound = self._registry.binding(name, asked.model_version, alias)
        if model is own and bound is not None and binding is not None and bound.alias == binding.alias:
            bound = binding
        return Destination(model, bound, request)

    def _is_elsewhere(self, standing: Standing, opening: Opening) -> bool:
        try:
            destination = self._asked(opening, standing.model, standing.model.config.name, standing.binding)
        except ServiceError:
            return True
        return destination.model is not standing.model or destination.binding != standing.binding

    def _moved(self, key: str, record: Record, destination: Destination, remaining_ms: int) -> Loaded:
        """Return the session on its new model."""
        model, snapshot, request = destination.model, record.snapshot, destination.request
        outline = self._outlines.find(snapshot.model, snapshot.model_version, snapshot.model_digest)
        is_there = model.digest_bytes == snapshot.model_digest
        if is_there and not (request and request.upgrade and request.values.size):  # only its binding changes
            loaded = load_record(key, record, self._registry)
            if loaded.session is not None:
                loaded.session.standing.binding = destination.binding
            loaded.move = Move(remaining_ms=remaining_ms)
            return loaded
        with intact(key):
            own = frequency_of(snapshot, outline.step if outline else None)
            if outline is None and record.newest.last_time is not None:
                frequency = own or model.frequency  # the observations' hash will show if it is another
            else:
                frequency = own or (outline.step if outline else None)
            if outline is not None:
                check_record(record, outline.width, outline.state_bytes, frequency)
            standing = standing_of(record, model, frequency)
        _check_suitable(key, model, outline, frequency, standing)
        step, known = standing.version.step, kept_in(record, outline)
        if request is not None and request.upgrade is not None and request.values.size:
            given = given_by(request, request.upgrade, standing, snapshot.width)
            known = joined(known, given, request.upgrade.since, step)
        rows = for_model(known, model, outline, step)
        standing.own_frequency = None if model.frequency else frequency
        standing.binding = destination.binding
        session = Session(key, standing, record.stamp, len(rows))
        session.replayed, session.epoch = len(rows), self._registry.epoch
        (state,) = model.forecaster.layout.pack(model.forecaster.initial_state(1))
        move = Move(len(rows), known.is_exact, remaining_ms)
        return Loaded(session, state, rows.astype("<f8", copy=False).tobytes(), stamp=record.stamp, move=move)


def _may_move(requests: Sequence[Request]) -> bool:
    """Return False for requests before which no session moves: its model does not matter to them."""
    first = requests[0]
    return not (first.close or first.restarts or first.fork is not None)


def _is_repeated(record: Record, requests: Sequence[Request]) -> bool:
    """Return True for an upgrade that the session has had: it may have moved on since."""
    first = requests[0]
    return first.upgrade is not None and first.request_id in record.snapshot.upgrades


def _check_suitable(
    key: str, model: Model, outline: Outline | None, frequency: Frequency | None, standing: Standing
) -> None:
    """Check that the model has the session's targets and steps.

    Raises:
        PreconditionFailed: if not.
    """
    name = quoted(id_of(key))
    if outline is not None:
        targets, classes = model.config.targets, model.config.classes
        is_same = len(targets) == len(outline.targets) and (len(targets) == 1 or targets == outline.targets)
        if not is_same or classes != outline.classes:
            own, its = (", ".join(each.classes or each.targets) for each in (outline, model.config))
            raise PreconditionFailed(
                f"session {name} has values of {own}, but {model} takes {its}; choose a model of the same ones",
                Reason.UNSUITABLE_MODEL,
            )
    if model.frequency is None or (frequency is None and not standing.version.step):
        return
    if frequency is None or not model.frequency.is_same(frequency):
        own = f"steps of {frequency.alias!r}" if frequency else "no frequency"
        raise PreconditionFailed(
            f"session {name} has {own}, but {model} has steps of {model.frequency.alias!r}; choose a model of the same "
            "frequency, or one without",
            Reason.OTHER_FREQUENCY,
        )
