"""One request of a session at a time, and none after one that was refused."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.proxy import Proxy, honest, lose, too_large

from statecast.client import Client, ResourceExhausted, SomeFailed
from statecast.client._batches import MAX_NUMBERS_A_FRAME, MAX_REQUESTS_A_FRAME
from statecast.service.rpc.crowded import MAX_PARTS


def test_nothing_is_sent_after_what_was_refused(make_client: Any, proxy: Proxy, session_id: str) -> None:
    client = make_client(proxy.target)
    session, other = (client.session(f"{session_id}-{name}", "tiny") for name in ("refused", "other"))
    proxy.faults.extend([honest, too_large])
    with pytest.raises(SomeFailed) as caught:
        client.observe_many([(other, 0.0), (session, np.ones(10_000)), *((session, float(at)) for at in range(4))])
    assert [type(result) for result in caught.value.results[1:]] == [ResourceExhausted] * 5
    assert session.info().version.step == caught.value.results[1].values_taken == 7560  # type: ignore[union-attr]


def test_requests_from_many_threads_push_no_request_id_out(proxy: Proxy, session_id: str) -> None:
    proxy.faults.extend([lose, honest] * 40)
    with Client(proxy.target) as client, ThreadPoolExecutor(40) as threads:
        sessions = [client.session(session_id, "tiny") for _ in range(2)]
        receipts = list(threads.map(lambda at: sessions[at % 2].observe(float(at)), range(40)))
    assert sorted(receipt.version.step for receipt in receipts) == list(range(1, 41))
    assert sum(receipt.replayed for receipt in receipts) >= 15  # the other answers that are lost are those of looks


def test_a_frame_of_values_with_times_is_none_that_a_server_refuses() -> None:
    """Each time comes with a value or more; a request has fewer than 50 fields besides."""
    assert MAX_NUMBERS_A_FRAME // 2 + 50 * MAX_REQUESTS_A_FRAME < MAX_PARTS
