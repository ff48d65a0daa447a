"""A TCP proxy without knowledge of gRPC: it forwards bytes, and cuts connections in the middle of them."""

import contextlib
import random
import socket
import threading

BLOCK_BYTES = 65_536


class TcpProxy:
    """A proxy that forwards every connection to a local port, and cuts connections on request."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut_next = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def has_cut(self) -> bool:
        """Return whether the last requested cut has happened."""
        return not self._cut_next.is_set()

    def cut(self) -> None:
        """Cut the next connection that carries data, in the middle of that data."""
        self._cut_next.set()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)
        for thread in self._threads:
            thread.join()

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._port))
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._pairs.append((near, far))
                self._spawn(self._pump, near, far)
                self._spawn(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the other direction has closed both
            while block := source.recv(BLOCK_BYTES):
                if self._takes_cut():
                    sink.sendall(block[: self._random.randrange(len(block))])
                    break
                sink.sendall(block)
        _close(source, sink)

    def _takes_cut(self) -> bool:
        with self._lock:
            due = self._cut_next.is_set()
            self._cut_next.clear()
            return due


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
