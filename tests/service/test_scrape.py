"""Sums and quantiles of metrics, and why they cannot be read."""

import math
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry
from support.certificates import Authority

from statecast.service.access.certificates import read_certificates
from statecast.service.metrics import Metrics
from statecast.service.metrics_endpoint import MetricsEndpoint
from statecast.service.scrape import Scrape, ScrapeError, fetch, quantile

TEXT = """\
# TYPE asked counter
asked_total{kind="step",code="OK"} 3.0
asked_total{kind="step",code="NOT_FOUND"} 1.0
asked_total{kind="look",code="OK"} 5.0
# TYPE seconds histogram
seconds_bucket{kind="step",le="0.1"} 2.0
seconds_bucket{kind="step",le="+Inf"} 4.0
seconds_bucket{kind="look",le="0.1"} 4.0
seconds_bucket{kind="look",le="+Inf"} 4.0
"""


def test_samples_are_added_up_by_label() -> None:
    scrape = Scrape.parse(TEXT)
    assert "asked_total" in scrape
    assert "other_total" not in scrape
    assert (scrape.total("asked_total"), scrape.total("asked_total", kind="step"), scrape.total("other")) == (9, 4, 0)
    assert scrape.by("asked_total", "code") == {("OK",): 8, ("NOT_FOUND",): 1}
    assert scrape.by("asked_total", "code", kind="look") == {("OK",): 5}
    assert scrape.buckets("seconds") == [(0.1, 6), (math.inf, 8)]


def test_a_quantile_is_linear_within_its_bucket() -> None:
    scrape = Scrape.parse(TEXT)
    assert scrape.quantile("seconds", 0.5, kind="look") == pytest.approx(0.05)
    assert scrape.quantile("seconds", 0.99, kind="step") == 0.1
    assert math.isnan(scrape.quantile("seconds", 0.5, kind="none"))
    assert quantile([(1.0, 0.0), (2.0, 10.0), (math.inf, 10.0)], 0.5) == 1.5
    assert math.isnan(quantile([(1.0, 0.0), (math.inf, 0.0)], 0.5))


def test_the_difference_of_two_scrapes_holds_what_has_grown() -> None:
    earlier = Scrape.parse('asked_total{kind="step",code="OK"} 1.0\n')
    assert Scrape.parse(TEXT).since(earlier).by("asked_total", "kind") == {("step",): 3, ("look",): 5}
    assert Scrape.parse("asked_total 2.0\n").since(Scrape.parse("asked_total 7.0\n")).total("asked_total") == 2


def test_what_is_no_text_of_prometheus_is_refused() -> None:
    with pytest.raises(ScrapeError, match="not in Prometheus' format"):
        Scrape.parse("<html>{</html>")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def encrypted(authority: Authority) -> Iterator[int]:
    pair = authority.server()
    endpoint = MetricsEndpoint(Metrics().registry, "127.0.0.1", 0, read_certificates(pair.cert, pair.key, None))
    endpoint.start()
    yield endpoint.port
    endpoint.stop()


def test_https_needs_the_authority(encrypted: int, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.ca)
    assert "statecast_requests" in fetch(f"https://127.0.0.1:{encrypted}/metrics", context=context)
    assert why(f"https://127.0.0.1:{encrypted}/metrics").endswith("name its authority with --ca")
    assert why(f"http://127.0.0.1:{encrypted}/metrics").endswith("if the server uses TLS, write https://")


def test_why_there_are_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = MetricsEndpoint(CollectorRegistry(), "127.0.0.1", 0, may_read=lambda header: header == "Bearer key")
    endpoint.start()
    address = f"127.0.0.1:{endpoint.port}"
    assert "asks for a credential whose role is admin" in why(f"http://{address}/metrics")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # no proxy sees the key
    assert fetch(f"http://{address}/metrics", {"Authorization": "Bearer key"}) == ""
    assert why(f"http://{address}/other").startswith("the answer is HTTP 404")
    assert why(f"https://{address}/metrics").endswith("if the server does not use it, write http://")
    endpoint.stop()
    assert why(f"http://{address}/metrics").startswith("no server listens there")
    assert why("http://nowhere.invalid/metrics").endswith("check the address")


def test_no_redirect_is_followed() -> None:
    """The header with the key would go along."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        thread = Thread(target=answer)
        thread.start()
        assert why(f"http://127.0.0.1:{port}/metrics").startswith("the answer is HTTP 302")
        thread.join()


def why(url: str) -> str:
    with pytest.raises(ScrapeError) as caught:
        fetch(url)
    return str(caught.value)
