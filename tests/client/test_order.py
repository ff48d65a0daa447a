"""A session takes what it is sent in order, or nothing of it: no hole is left behind."""

from typing import Any

import numpy as np
import pytest
from support.proxy import Proxy, honest, too_large

from statecast.client import ResourceExhausted, SomeFailed


def test_nothing_is_sent_after_what_was_refused(make_client: Any, proxy: Proxy, session_id: str) -> None:
    client = make_client(proxy.target)
    session, other = (client.session(f"{session_id}-{name}", "tiny") for name in ("refused", "other"))
    proxy.faults.extend([honest, too_large])
    with pytest.raises(SomeFailed) as caught:
        client.observe_many([(other, 0.0), (session, np.ones(10_000)), *((session, float(at)) for at in range(4))])
    assert [type(result) for result in caught.value.results[1:]] == [ResourceExhausted] * 5
    assert session.info().version.step == caught.value.results[1].values_taken == 7560  # type: ignore[union-attr]
