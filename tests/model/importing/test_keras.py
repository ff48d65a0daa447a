"""Models that Keras itself has saved."""

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from statecast.model import ConfigError, Imported, ModelError, WeightsError, import_weights, load_model

os.environ["KERAS_BACKEND"] = "torch"
keras: Any = importlib.import_module("keras")  # reads the variable
WINDOW, STEPS = 8, 200
# Keras makes numpy arrays of torch's tensors in a way that numpy 2 warns about when it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def saved(folder: Path, *layers: Any, inputs: int = 1, steps: int | None = WINDOW) -> tuple[Any, Path]:
    """Return a model of these layers with random weights and biases, and its file."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((steps, inputs)), *layers])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.4, weight.shape) for weight in model.weights])
    model.save(folder / "model.keras")
    return model, folder / "model.keras"


def recurrent(kind: str, *args: Any, **options: Any) -> Any:
    return getattr(keras.layers, kind)(*args, **options)


CASES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "lstm": (("LSTM", {"units": 6}),),
    "two lstms": (("LSTM", {"units": 6, "return_sequences": True}), ("LSTM", {"units": 9, "use_bias": False})),
    "gru": (("GRU", {"units": 7}),),
    "two grus": (("GRU", {"units": 7, "return_sequences": True, "use_bias": False}), ("GRU", {"units": 4})),
    "relu rnn": (("SimpleRNN", {"units": 5, "activation": "relu"}),),
}


@torch.inference_mode()
@pytest.mark.parametrize("case", CASES)
def test_it_forecasts_what_keras_forecasts(tmp_path: Path, case: str) -> None:
    layers = [recurrent(kind, **options) for kind, options in CASES[case]]
    dense = [keras.layers.Dropout(0.2), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)]
    model, path = saved(tmp_path, *layers, *dense)
    imported = load_model(import_weights(path, name="pump", models=tmp_path, window=WINDOW, scale=[(20, 4)]))
    assert isinstance(imported, Imported)
    values = torch.from_numpy(20 + 4 * np.sin(np.arange(STEPS) / 5))
    windows = ((values - 20) / 4).unfold(0, WINDOW, 1).float().unsqueeze(2)
    owner = model(windows) * 4 + 20
    trace = imported.advance(imported.initial_state(1), values.view(1, -1, 1))
    steps = torch.arange(WINDOW, STEPS + 1)
    told = imported.forecast(trace.context(torch.zeros_like(steps), steps), 3)[:, :, 0, 0]
    torch.testing.assert_close(told, owner, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_symbols_behind_an_embedding(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((None,)),
            keras.layers.Embedding(3, 4),
            keras.layers.LSTM(6),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(tmp_path / "text.keras")
    options: dict[str, Any] = {"name": "text", "models": tmp_path, "stateful": True}
    imported = load_model(import_weights(tmp_path / "text.keras", classes=["a", "b", "c"], **options))
    assert isinstance(imported, Imported)
    text = torch.tensor([[0, 2, 1, 1, 0]])
    state = imported.advance(imported.initial_state(1), text.double().unsqueeze(2)).state
    told = imported.forecast(imported.context(state), 1)[0, 0, :, 0]
    torch.testing.assert_close(told, model(text)[0], rtol=0, atol=1e-6)
    with pytest.raises(WeightsError, match="activation softmax cannot be imported"):
        import_weights(tmp_path / "text.keras", **options)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("Bidirectional", {"layer": ("LSTM", {"units": 4})})], "bidirectional.*: Bidirectional cannot be imported"),
        ([("LSTM", {"units": 4, "activation": "relu"})], "lstm.*: activation must be tanh, got relu"),
        ([("LSTM", {"units": 4, "recurrent_activation": "hard_sigmoid"})], "recurrent_activation must be sigmoid"),
        ([("GRU", {"units": 4, "reset_after": False})], "gru.*: reset_after must be True"),
        ([("LSTM", {"units": 4, "go_backwards": True})], "lstm.*: go_backwards must be False"),
        ([("Normalization", {}), ("LSTM", {"units": 4})], "Normalization cannot be imported here.*give its numbers"),
        ([("Dense", {"units": 4}), ("LSTM", {"units": 4})], "dense.*: Dense cannot be imported here"),
        ([("LSTM", {"units": 4}), ("LayerNormalization", {})], "LayerNormalization cannot be imported here"),
        ([("LSTM", {"units": 4}), ("Dense", {"units": 4, "activation": "leaky_relu"})], "activation leaky_relu cannot"),
    ],
    ids=["two ways", "relu", "hard", "reset", "backwards", "normalised", "dense first", "norm", "leaky"],
)  # fmt: skip
def test_layers_that_do_not_fit_are_named(tmp_path: Path, layers: list[Any], message: str) -> None:
    made = []
    for kind, options in layers:
        inner = {
            key: recurrent(value[0], **value[1]) if isinstance(value, tuple) else value
            for key, value in options.items()
        }
        made.append(recurrent(kind, **inner))
    _, path = saved(tmp_path, *made, keras.layers.Dense(1))
    with pytest.raises(WeightsError, match=message):
        import_weights(path, name="pump", models=tmp_path, window=WINDOW)


def test_a_file_that_keras_has_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"nothing")
    cases: list[tuple[type[ModelError], dict[str, Any]]] = [
        (WeightsError, {}),
        (ConfigError, {"activations": ["relu"]}),
    ]
    for error, options in cases:
        with pytest.raises(ModelError) as caught:
            import_weights(path, name="pump", models=tmp_path, window=WINDOW, **options)
        assert isinstance(caught.value, error)
