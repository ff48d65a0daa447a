"""What the cell remembers: an LSTM carries a cue over a hundred requests through a real server, a tanh RNN does not."""

from pathlib import Path

import pytest
import recall
from support.servers import ServerThread

from statecast.client import Client, StatecastError

TASK = recall.Task(longest_gap=100, updates=400, gaps=(50, 150), sessions=40)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_lstm_recalls_over_the_wire_what_an_rnn_has_lost(tmp_path: Path) -> None:
    picture = tmp_path / "gates.png"
    shares = recall.run(TASK, tmp_path / "models", picture)
    # Balanced cues, so that an RNN that always says the same is at chance as well; three standard deviations.
    chance = 1.5 * recall.noise(TASK.sessions)
    for gap in TASK.gaps:
        assert shares["lstm"][gap] >= 0.95
        assert abs(shares["rnn"][gap] - 0.5) <= chance
    assert picture.stat().st_size > 10_000
    table = recall.report(shares, TASK.sessions)
    assert [line.split()[0] for line in table.splitlines()] == ["requests", "50", "150", "chance"]


def test_lessons_are_the_same_for_both_cells_and_end_in_their_cue() -> None:
    first, second = (recall.lessons(TASK) for _ in range(2))
    for _ in range(20):
        batch, again = next(first), next(second)
        assert batch.numbers.equal(again.numbers)
        assert batch.numbers[:, -1].equal(batch.numbers[:, 0])
        assert bool((batch.numbers[:, -2] == recall.CLASSES.index(recall.ASK)).all())
        assert 3 < batch.numbers.shape[1] + 1 <= TASK.longest_gap + 4


def test_a_request_that_fails_is_not_taken_for_an_answer(server: ServerThread, session_id: str) -> None:
    with Client(server.target) as client, pytest.raises(StatecastError, match="nowhere"):
        recall.tell(client, [(client.session(session_id, "nowhere"), 0.0)], horizon=1)
