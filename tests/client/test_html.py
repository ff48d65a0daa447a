"""Cards for notebooks: well-formed, escaped, and without anything from elsewhere."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from client.test_fans import FORECAST, HOURLY

from statecast.client import Client, Forecast, ModelInfo

SYMBOLS = replace(FORECAST, quantile_levels=(), classes=("<a>", "b", "c"))
MODEL = ModelInfo(
    "base", "1", "abc", "", ("value",), 24, (0.1, 0.9), "lstm", 1, 8, 24, 1000, categories={"region": ("<north>",)}
)


def parsed(card: str) -> ElementTree.Element:
    return ElementTree.fromstring(card)


def text(card: str) -> str:
    return " ".join("".join(parsed(card).itertext()).split())


@pytest.mark.parametrize(
    "forecast",
    [
        pytest.param(FORECAST, id="steps"),
        pytest.param(HOURLY, id="times"),
        pytest.param(SYMBOLS, id="symbols"),
        pytest.param(replace(FORECAST, values=FORECAST.values[:1]), id="one-step"),
        pytest.param(replace(FORECAST, values=np.full_like(FORECAST.values, 7)), id="constant"),
        pytest.param(replace(FORECAST, targets=("<x>", "y"), values=np.repeat(FORECAST.values, 2, 2)), id="targets"),
        pytest.param(replace(FORECAST, values=FORECAST.values * np.nan), id="unknown"),
    ],
)
def test_a_forecast_is_a_chart_and_a_table(forecast: Forecast) -> None:
    card = replace(forecast, session_id="<script>&")._repr_html_()
    root = parsed(card)
    assert "Forecast of <script>&" in text(card)
    assert not {"script", "x", "a", "link", "img"} & {each.tag for each in root.iter()}
    charts = root.findall(".//svg")
    if np.isnan(forecast.values).all():
        assert "No value so far" in text(card)
    else:
        assert len(charts) == len(forecast.targets)
    assert len(root.findall(".//tr")) == 1 + forecast.horizon
    shown = [float(cell.text or "") for cell in root.findall(".//tr[2]/td")[1:]]
    expected = forecast.values[0].T.ravel()
    assert shown == pytest.approx(expected.tolist(), rel=1e-3, nan_ok=True)


def test_the_fan_is_drawn_from_low_to_high() -> None:
    band, middle = parsed(FORECAST._repr_html_()).findall(".//svg/path")[1:]
    points = [tuple(map(float, point.split())) for point in band.attrib["d"].strip("MZ").split("L")]
    heights = [y for _, y in points]
    assert heights[0] > heights[3]  # SVG counts downwards: the first is the lowest quantile
    assert heights[1] > heights[2]
    assert max(heights) == heights[0]
    assert min(heights) == heights[2]
    assert middle.attrib["fill"] == "none"


def test_many_columns_and_steps_are_cut_short() -> None:
    levels = tuple(np.linspace(0.01, 0.99, 99).round(2).tolist())
    wide = replace(FORECAST, quantile_levels=levels, values=np.zeros((48, 99, 1), np.float32))
    root = parsed(wide._repr_html_())
    assert [cell.text for cell in root.findall(".//th")] == [
        "step",
        "0.01",
        "0.17",
        "0.34",
        "0.5",
        "0.66",
        "0.83",
        "0.99",
    ]
    assert text(wide._repr_html_()).endswith("and 42 more steps, 7 of 99 columns")


def test_sessions_clients_and_models_name_themselves(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="tiny", model_version="1")
    inner = getattr(session, "_inner", session)
    assert repr(inner) == f"<{type(inner).__name__} {session_id!r}, model='tiny', model_version='1', version=None>"
    assert "nothing sent yet" in text(inner._repr_html_())
    session.observe([1.0, 2.0])
    assert str(session.version) in repr(inner)
    assert f"version {session.version}" in text(inner._repr_html_()).replace("version2", "version 2")
    own = getattr(client, "_inner", client)
    assert repr(own).startswith(f"<{type(own).__name__} of '")
    assert repr(session.forecast(2)).startswith(f"<Forecast of {session_id!r} after 2:")
    assert "region" in text(MODEL._repr_html_())
    assert "<north>" in text(MODEL._repr_html_())


def test_no_card_shows_a_credential() -> None:
    with Client("localhost:1", api_key="sck_secret") as client:
        assert "secret" not in repr(client) + client._repr_html_()
        assert "encrypted" in client._repr_html_()
