"""The gateway takes values over HTTP, each once, and answers errors with fitting statuses."""

import asyncio
from collections.abc import AsyncIterator

import gateway
import httpx
import pytest
from support.servers import ServerThread


@pytest.fixture
async def http(server: ServerThread, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("STATECAST_TARGET", server.target)
    transport = httpx.ASGITransport(gateway.app)
    async with (
        gateway.app.router.lifespan_context(gateway.app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


async def test_values_are_appended_once_and_forecast(http: httpx.AsyncClient, session_id: str) -> None:
    path, headers = f"/sensors/{session_id}/values", {"Idempotency-Key": "42"}
    body = {"values": [20.1, None, 20.4], "horizon": 3}
    answers = [(await http.post(path, json=body, headers=headers)).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["step"] == 3
    assert {len(quantile) for quantile in answers[0]["quantiles"].values()} == {3}
    others = await asyncio.gather(*(http.post(f"/sensors/{session_id}-{at}/values", json=body) for at in range(20)))
    assert [each.json()["step"] for each in others] == [3] * 20


@pytest.mark.parametrize(
    ("body", "status"),
    [({"values": [1e31]}, 422), ({"values": [1.0], "horizon": 1001}, 422), ({"values": ["a"]}, 422)],
    ids=["too-large", "too-far", "text"],
)
async def test_what_is_wrong_is_refused(
    http: httpx.AsyncClient, session_id: str, body: dict[str, object], status: int
) -> None:
    answer = await http.post(f"/sensors/{session_id}/values", json=body)
    assert answer.status_code == status
    assert answer.json()["detail"]


async def test_without_a_server_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_TARGET", "localhost:1")
    transport = httpx.ASGITransport(gateway.app)
    async with (
        gateway.app.router.lifespan_context(gateway.app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        answer = await client.post("/sensors/a/values", json={"values": [1.0]})
    assert answer.status_code in (503, 504)
