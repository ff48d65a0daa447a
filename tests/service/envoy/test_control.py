"""Settings and messages travel between the operator's process and the server inside Envoy."""

import socket
from pathlib import Path

from statecast.service.envoy.control import Control, from_json, to_json
from statecast.service.settings import Settings


async def test_settings_arrive_as_they_are() -> None:
    settings = Settings(
        models=Path("/m"), redis_url="redis://:p@h", drain_seconds=0.25, port=0, require_all_models=True
    )
    ours, theirs = socket.socketpair()
    sender, receiver = await Control.over(ours), await Control.over(theirs)
    await sender.send({"settings": to_json(settings)})
    message = await receiver.receive()
    assert message is not None
    assert from_json(message["settings"]) == settings
    sender.close()
    assert await receiver.receive() is None
    receiver.close()


async def test_a_message_to_a_side_that_has_gone_is_dropped() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    control = await Control.over(ours)
    for _ in range(3):
        await control.send({"stop": True})
    assert await control.receive() is None
    control.close()
