"""A program of its own that forks while one of its threads is in a call, and prints what each child is told."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from statecast.client import AsyncClient, Client, StatecastError


def in_child(work: Callable[[], object]) -> str:
    """What a forked process says of some work: the error's message, or nothing."""
    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        try:
            work()
            os.write(send, b"no error")
        except StatecastError as error:
            os.write(send, str(error).encode())
        except BaseException as error:
            os.write(send, repr(error).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def main(target: str, session_id: str) -> None:
    """Fork for each kind of call, and at last one from the process that forked."""
    client, aclient = Client(target), AsyncClient(target)
    session, asession = client.session(session_id, model="tiny"), aclient.session(f"{session_id}-a", model="tiny")
    asyncio.run(asession.observe(1.0))
    stop = threading.Event()

    def keep_calling() -> None:
        while not stop.is_set():
            session.observe(1.0)

    thread = threading.Thread(target=keep_calling)
    thread.start()
    works: list[Callable[[], Any]] = [
        lambda: session.observe(1.0), lambda: session.info(), lambda: client.session("other"),
        lambda: list(client.stream([(session, 1.0)])), lambda: list(client.sessions()), lambda: client.models(),
        lambda: client.observe_many([(session, 1.0)]), lambda: asyncio.run(asession.observe(1.0)) and None,
    ]  # fmt: skip
    told = [in_child(work) for work in works]
    closed = in_child(client.close)
    stop.set()
    thread.join()
    print(json.dumps({"pid": os.getpid(), "told": told, "closed": closed, "works": session.observe(1.0).version.step}))


if __name__ == "__main__":
    main(*sys.argv[1:])
