"""A program for a stateful model of Triton, as its users write them; prints what it gets, as JSON.

    python program.py TARGET MODEL

The model takes INPUT, one FP32 for each step of a sequence, and answers with OUTPUT. Only tritonclient is used.
"""

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

TARGET, MODEL = sys.argv[1:]
VALUES = (1.0, -2.0, 3.5, 0.25)


def tensor(value: float) -> list[Any]:
    data = triton.InferInput("INPUT", [1, 1], "FP32")
    data.set_data_from_numpy(np.array([[value]], np.float32))
    return [data]


def steps(sequence: int) -> Iterator[dict[str, Any]]:
    for position, value in enumerate(VALUES):
        yield {
            "model_name": MODEL,
            "inputs": tensor(value + sequence % 10),
            "outputs": [triton.InferRequestedOutput("OUTPUT")],
            "request_id": f"step {position}",
            "sequence_id": sequence,
            "sequence_start": position == 0,
            "sequence_end": position == len(VALUES) - 1,
        }


def output(result: Any) -> list[float]:
    found: list[float] = result.as_numpy("OUTPUT").ravel().tolist()
    return found


def one_after_the_other(client: Any) -> Sequence[Any]:
    """Two sequences that take turns, in plain calls."""
    return [
        output(client.infer(**step))
        for both in zip(steps(101), steps(102), strict=True)
        for step in both
    ]  # fmt: skip


def with_callbacks(client: Any) -> Sequence[Any]:
    """A sequence in asynchronous calls; each waits for the one before it."""
    results: queue.Queue[Any] = queue.Queue()
    outputs = []
    for step in steps(103):
        client.async_infer(callback=lambda result, error: results.put(error or output(result)), **step)
        outputs.append(results.get(timeout=20))
    return outputs


def on_a_stream(client: Any) -> Sequence[Any]:
    """A sequence on a stream, without waiting for answers; they are matched by request id."""
    results: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: results.put((result, error)))
    for step in steps(104):
        client.async_stream_infer(**step)
    outputs: list[Any] = [None] * len(VALUES)
    for _ in VALUES:
        result, error = results.get(timeout=20)
        if error is not None:
            raise error
        outputs[int(result.get_response().id.split()[1])] = output(result)
    client.stop_stream()
    return outputs


async def with_asyncio() -> Sequence[Any]:
    """A sequence in awaited calls, then one on a stream."""
    async with tritonclient.grpc.aio.InferenceServerClient(TARGET) as client:
        outputs = [output(await client.infer(**step)) for step in steps(105)]

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for step in steps(106):
                yield step

        async for result, error in client.stream_infer(requests()):
            if error is not None:
                raise error
            outputs.append(output(result))
    return outputs


def refused(client: Any, **changes: Any) -> str:
    """Return the status of a call that fails."""
    try:
        client.infer(**{**next(steps(107)), **changes})
    except InferenceServerException as error:
        return str(error.status())
    return "answered"


def refused_on_a_stream(client: Any) -> str:
    """Return what a stream says of a request that fails."""
    results: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: results.put(error))
    client.async_stream_infer(**{**next(steps(108)), "sequence_start": False})
    error = results.get(timeout=20)
    client.stop_stream()
    return "START flag" if "START flag" in str(error) else str(error)


def main() -> None:
    with triton.InferenceServerClient(TARGET) as client:
        metadata = client.get_model_metadata(MODEL)
        found = {
            "serves": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(MODEL)],
            "no such model": client.is_model_ready("none"),
            "inputs": [[each.name, each.datatype] for each in metadata.inputs],
            "has OUTPUT": "OUTPUT" in [each.name for each in metadata.outputs],
            "keeps sequences": client.get_model_config(MODEL).config.HasField("sequence_batching"),
            "one after the other": one_after_the_other(client),
            "with callbacks": with_callbacks(client),
            "on a stream": on_a_stream(client),
            "with asyncio": asyncio.run(with_asyncio()),
            "after its end": refused(client, sequence_id=101, sequence_start=False),
            "without a start": refused(client, sequence_id=999, sequence_start=False),
            "without a sequence": refused(client, sequence_id=0),
            "with an empty one": refused(client, sequence_id=""),
            "of another model": refused(client, model_name="none"),
            "of another output": refused(client, outputs=[triton.InferRequestedOutput("NONE")]),
            "without a start on a stream": refused_on_a_stream(client),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
