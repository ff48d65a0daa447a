"""Reads the metrics of a running server: fetches its Prometheus text, sums samples, and computes quantiles."""

import math
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from typing import Any, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]
Buckets: TypeAlias = list[tuple[float, float]]
"""Upper bounds of a histogram's buckets, ascending, each with the number of values up to it."""

TIMEOUT_SECONDS = 5.0


class ScrapeError(Exception):
    """The metrics cannot be read; the message says why, and what to do."""


class Scrape:
    """The samples of one scrape, or the difference of two."""

    def __init__(self, samples: Mapping[tuple[str, Labels], float] | None = None) -> None:
        self._samples: dict[str, list[tuple[Labels, float]]] = {}
        for (name, labels), value in (samples or {}).items():
            self._samples.setdefault(name, []).append((labels, value))

    @classmethod
    def parse(cls, text: str) -> "Scrape":
        """Return the samples of a text.

        Raises:
            ScrapeError: It is not in Prometheus' format.
        """
        try:
            families = list(text_string_to_metric_families(text))
        except (ValueError, KeyError, IndexError) as error:
            raise ScrapeError("the answer is not in Prometheus' format; check the address") from error
        return cls(
            {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in families
                for sample in family.samples
            }
        )

    def __contains__(self, name: str) -> bool:
        return name in self._samples

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of that name with these labels; 0 without any."""
        return sum(value for _, value in self._matching(name, labels))

    def by(self, name: str, *keys: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return the sums of the samples of that name with these labels, by their values of the labels `keys`."""
        sums: dict[tuple[str, ...], float] = {}
        for found, value in self._matching(name, labels):
            values = dict(found)
            group = tuple(values.get(key, "") for key in keys)
            sums[group] = sums.get(group, 0.0) + value
        return sums

    def quantile(self, histogram: str, level: float, **labels: str) -> float:
        """Return a quantile of a histogram, over all samples with these labels; NaN if there are no values."""
        return quantile(self.buckets(histogram, **labels), level)

    def buckets(self, histogram: str, **labels: str) -> Buckets:
        """Return the buckets of a histogram, over all samples with these labels."""
        return sorted(
            (float(bound), count) for (bound,), count in self.by(f"{histogram}_bucket", "le", **labels).items()
        )

    def since(self, earlier: "Scrape") -> "Scrape":
        """Return how much each counter has grown since an earlier scrape; one that is new or lower began at 0."""
        before = {(name, labels): value for name, every in earlier._samples.items() for labels, value in every}
        grown = {}
        for name, every in self._samples.items():
            for labels, value in every:
                start = before.get((name, labels), 0.0)
                grown[name, labels] = value - start if value >= start else value
        return Scrape(grown)

    def _matching(self, name: str, labels: Mapping[str, str]) -> Iterable[tuple[Labels, float]]:
        wanted = labels.items()
        return ((found, value) for found, value in self._samples.get(name, ()) if wanted <= found)


def quantile(buckets: Buckets, level: float) -> float:
    """Return a quantile of a histogram, linear within its bucket as Prometheus' histogram_quantile does.

    It is the highest finite bound if it lies above, and NaN without values.
    """
    rank = level * buckets[-1][1] if buckets else 0.0
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= rank and count > below:
            return lower if math.isinf(upper) else lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return math.nan


def fetch(url: str, headers: Mapping[str, str] | None = None, context: ssl.SSLContext | None = None) -> str:
    """Return the text at an address, without a proxy and without following it elsewhere.

    Args:
        url: Its address, http or https.
        headers: Headers to send; one of them may be a credential, which no other server must see.
        context: The authorities to trust; None for the system's.

    Raises:
        ScrapeError: There is no text.
    """
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), _NoRedirect(), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(urllib.request.Request(url, headers=dict(headers or {})), timeout=TIMEOUT_SECONDS) as response:
            text: str = response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        raise ScrapeError(_refusal(error.code)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise ScrapeError(_why(url, error)) from error
    return text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for an error."""

    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect."""
        return


def _refusal(code: int) -> str:
    if code in (401, 403):
        return "the server asks for a credential whose role is admin; give one with --api-key or STATECAST_API_KEY"
    return f"the answer is HTTP {code}; check the address, which usually ends in /metrics"


def _why(url: str, error: Exception) -> str:
    cause = getattr(error, "reason", error)
    said = str(getattr(cause, "strerror", None) or cause or type(error).__name__)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted here ({cause.verify_message}); name its authority with --ca"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({said}); if the server does not use it, write http://"
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(cause, ConnectionRefusedError):
        return "no server listens there (connection refused); start it, or check the address"
    if isinstance(error, HTTPException) or isinstance(cause, ConnectionError):
        hint = "; if the server uses TLS, write https://" if url.startswith("http://") else ""
        return f"the connection was closed ({said}){hint}"
    return f"{said}; check the address"
