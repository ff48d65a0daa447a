"""A model of Triton's Python backend with the same LSTM; sequence states stay in memory.

A batch is one step of several sequences.
"""

from typing import Any

import torch
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

SIZE, LAYERS, OUTPUTS = 128, 2, 24 * 9


class TritonPythonModel:
    """The class that Triton looks for in this file."""

    def initialize(self, arguments: dict[str, str]) -> None:
        torch.set_num_threads(1)
        self.lstm = torch.nn.LSTM(1, SIZE, LAYERS).eval()
        self.head = torch.nn.Linear(SIZE, OUTPUTS).eval()
        self.states: dict[int, torch.Tensor] = {}
        """The state of each sequence, [2, layers, size]."""

    def execute(self, requests: list[Any]) -> list[Any]:
        sequences = [int(_scalar(request, "SEQUENCE")) for request in requests]
        for request, sequence in zip(requests, sequences, strict=True):
            if _scalar(request, "BEGINS"):
                self.states[sequence] = torch.zeros(2, LAYERS, SIZE)
        values = torch.tensor([[[_scalar(request, "VALUE")] for request in requests]])
        with torch.inference_mode():
            hidden, cell = torch.stack([self.states[sequence] for sequence in sequences], dim=2)
            output, state = self.lstm(values, (hidden.contiguous(), cell.contiguous()))
            after = torch.stack(state)
            forecasts = self.head(output[0]).numpy()
        for row, sequence in enumerate(sequences):
            self.states[sequence] = after[:, :, row].clone()
        answers = (triton.Tensor("FORECAST", forecasts[row : row + 1]) for row in range(len(requests)))
        return [triton.InferenceResponse([answer]) for answer in answers]


def _scalar(request: Any, name: str) -> float:
    number: float = triton.get_input_tensor_by_name(request, name).as_numpy().item()
    return number
