"""Pictures of gates."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from statecast.client import Gates
from statecast.client.plotting import plot_gates
from statecast.model.layers.cells import GATES, RecurrentLayers, RecurrentState


def sequence(kind: str = "lstm", requests: int = 30, layers: int = 2, hidden_size: int = 8) -> list[Gates]:
    """The gates of a cell with random weights, step by step."""
    torch.manual_seed(0)
    cell = RecurrentLayers(kind, 3, hidden_size, layers)
    hidden = torch.zeros(1, layers, hidden_size)
    memory, found = RecurrentState(hidden, hidden if kind == "lstm" else None), []
    with torch.no_grad():
        for step in torch.randn(requests, 1, 1, 3):
            gates = cell.gates(step, memory)
            memory = RecurrentState(gates.hidden[None], None if gates.cell is None else gates.cell[None])
            state = None if gates.cell is None else gates.cell.numpy()
            found.append(Gates(gates.names, gates.values.numpy(), state, gates.hidden.numpy()))
    return found


def panels(figure: Any) -> dict[str, Any]:
    """Each panel's picture [hidden, requests], by its title."""
    return {axes.get_title("left"): axes.images[0].get_array() for axes in figure.axes if axes.get_title("left")}


@pytest.mark.parametrize(
    ("kind", "titles"),
    [
        ("lstm", ["input gate", "forget gate", "candidate", "output gate", "cell state"]),
        ("gru", ["reset gate", "update gate", "candidate", "hidden state"]),
        ("rnn", ["candidate", "hidden state"]),
    ],
)
@pytest.mark.parametrize("layer", [0, 1])
def test_a_panel_for_each_gate_and_the_state(kind: str, titles: list[str], layer: int) -> None:
    gates = sequence(kind)
    shown = panels(plot_gates(gates, layer))
    assert list(shown) == titles
    for position, title in enumerate(titles[:-1]):
        values = np.array([each.values[layer, position] for each in gates])
        np.testing.assert_array_equal(np.sort(shown[title], axis=0), np.sort(values.T, axis=0))
    assert len(titles) == len(GATES[kind]) + 1


def test_units_stand_in_the_order_of_their_mean_forget_gate() -> None:
    gates = sequence()
    order = np.argsort(-np.mean([each.values[0, 1] for each in gates], axis=0))
    shown = panels(plot_gates(gates))
    assert (np.diff(shown["forget gate"].mean(axis=1)) <= 0).all()
    np.testing.assert_array_equal(shown["cell state"], np.array([each.cell for each in gates])[:, 0, order].T)


def test_a_request_without_gates_stays_blank() -> None:
    gates: list[Gates | None] = [*sequence(requests=5)]
    gates[3] = None
    for shown in panels(plot_gates(gates)).values():
        blank = np.isnan(np.ma.filled(shown, np.nan))
        assert blank.any(axis=0).tolist() == blank.all(axis=0).tolist() == [False, False, False, True, False]


def test_it_is_written_and_labelled(tmp_path: Path) -> None:
    figure = plot_gates(sequence(requests=40), path=tmp_path / "gates.png", labels=[f"12:{at:02}" for at in range(40)])
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    (last,) = [axes for axes in figure.axes if axes.get_title("left") == "cell state"]
    assert [label.get_text() for label in last.get_xticklabels()] == [f"12:{at:02}" for at in range(0, 40, 3)]
    assert last.get_xlabel() == "request"
    assert "forget" in figure.get_supylabel()


def test_what_cannot_be_drawn_says_why() -> None:
    gates = sequence()
    with pytest.raises(ValueError, match="explain=True"):
        plot_gates([None, None])
    with pytest.raises(ValueError, match="layer 2"):
        plot_gates(gates, layer=2)
    with pytest.raises(ValueError, match="one model"):
        plot_gates([*gates, *sequence("gru")])
    with pytest.raises(ValueError, match="one model"):
        plot_gates([*gates, *sequence(hidden_size=9)])
    with pytest.raises(ValueError, match="2 labels do not go with 30 requests"):
        plot_gates(gates, labels=["a", "b"])


def test_values_far_beyond_the_others_are_drawn_too() -> None:
    gates = sequence()
    cell = gates[0].cell
    assert cell is not None
    gates[0] = replace(gates[0], cell=cell * 1e4)
    plot_gates(gates).canvas.draw()
    plot_gates([replace(gates[0], cell=0 * cell)]).canvas.draw()


def test_the_client_alone_imports_nothing_heavy() -> None:
    code = "import sys, statecast.client, statecast.client.plotting; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "pandas", "matplotlib", "redis"} & set(modules)
