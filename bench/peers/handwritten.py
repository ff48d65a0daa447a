"""A simple forecasting service, written by hand.

    python handwritten.py PORT REDIS_SOCKET

For each request it reads the state from Redis, runs one step of the LSTM, writes the state back and answers. A request
is a session's number (int64) and a value (float32). An answer is the 24 x 9 outputs of a linear head (float32).
"""

import asyncio
import struct
import sys
from typing import Any

import grpc
import grpc.aio
import numpy as np
import redis.asyncio
import torch

SIZE, LAYERS, OUTPUTS = 128, 2, 24 * 9
KEPT_SECONDS = 30 * 86_400
REQUEST = struct.Struct("<qf")


class Forecasts:
    """The model, and the sessions kept in Redis."""

    def __init__(self, socket: str) -> None:
        torch.set_num_threads(1)
        self._redis: Any = redis.asyncio.Redis(unix_socket_path=socket, max_connections=1024)
        self._lstm = torch.nn.LSTM(1, SIZE, LAYERS).eval()
        self._head = torch.nn.Linear(SIZE, OUTPUTS).eval()

    async def step(self, message: bytes, context: Any) -> bytes:
        number, value = REQUEST.unpack(message)
        key = f"session:{number}"
        kept = await self._redis.get(key)
        before = np.frombuffer(kept, np.float32) if kept else np.zeros(2 * LAYERS * SIZE, np.float32)
        forecast, after = self._compute(value, before)
        await self._redis.set(key, after, ex=KEPT_SECONDS)
        return forecast

    def _compute(self, value: float, before: Any) -> tuple[bytes, bytes]:
        with torch.inference_mode():
            hidden, cell = torch.from_numpy(before.copy()).view(2, LAYERS, 1, SIZE)
            output, state = self._lstm(torch.full((1, 1, 1), value), (hidden, cell))
            return self._head(output[-1]).numpy().tobytes(), torch.stack(state).numpy().tobytes()


async def main(port: int, socket: str) -> None:
    step: Any = grpc.unary_unary_rpc_method_handler(Forecasts(socket).step)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Forecasts", {"Step": step}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
