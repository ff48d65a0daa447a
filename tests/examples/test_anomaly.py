"""Anomalies found by surprise, through a real server, beside rolling z-scores."""

import csv
import json
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import NormalDist

import anomaly
import labelled
import numpy as np
import pytest
from numpy.typing import NDArray
from support.servers import ServerThread

from statecast.client import Client, Forecast, StatecastError, Version

DATA = Path(os.environ.get("STATECAST_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data") / "nab"
ROWS, PERIOD, LASTS = 2400, 48, 30
BEGIN = datetime(2024, 1, 1)


def regular(random: np.random.Generator) -> NDArray[np.float64]:
    """A day that repeats, of two waves, with a slow drift and noise."""
    day = np.arange(ROWS) * 2 * np.pi / PERIOD
    waves = 10 * np.sin(day) + 3 * np.sin(2 * day + random.uniform(0, 6))
    return np.asarray(100 + waves + np.cumsum(random.normal(0, 0.03, ROWS)) + random.normal(0, 0.7, ROWS))


def disturb(values: NDArray[np.float64], kind: str, start: int) -> None:
    """Injects an anomaly that stays within the series' range."""
    rows = slice(start, start + LASTS)
    if kind == "frozen":
        values[rows] = values[start]
    elif kind == "shifted":
        values[rows] += 5.0
    else:  # the day runs half a day late
        values[rows] = values[start - PERIOD // 2 : start - PERIOD // 2 + LASTS]


def write(folder: Path, series: int = 5) -> None:
    """Writes series with three anomalies each, in NAB's layout."""
    random, labels = np.random.default_rng(7), {}
    times = [BEGIN + timedelta(minutes=30 * row) for row in range(ROWS)]
    for number in range(series):
        values, windows = regular(random), []
        for kind, place in zip(("frozen", "shifted", "late"), (700, 1300, 1900), strict=True):
            start = place + int(random.integers(0, 300))
            disturb(values, kind, start)
            windows.append([f"{times[start]}", f"{times[start + 2 * LASTS]}"])
        name = f"made__series_{number}.csv"
        labels[name] = {"anomaly_windows": windows}
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["timestamp", "value"])
            for row in range(ROWS):
                writer.writerows([[times[row], values[row]]] * (2 if row % 500 == 0 else 1))
    (folder / "labels.json").write_text(json.dumps(labels))


def test_surprise_finds_what_rolling_z_scores_do_not(tmp_path: Path) -> None:
    write(tmp_path)
    picture = tmp_path / "anomaly.png"
    outcomes = anomaly.run(tmp_path, picture=picture)
    for score in (anomaly.PIT, anomaly.BOTH):
        ours = outcomes[score]
        for baseline in (anomaly.Z, anomaly.Z_MEAN):
            theirs = outcomes[baseline]
            assert ours.total.alarms == theirs.total.alarms
            assert ours.total.precision > theirs.total.precision
            assert ours.total.recall > theirs.total.recall
            assert ours.area > theirs.area
    assert picture.stat().st_size > 10_000


def test_on_nab_it_does_better_than_the_rolling_z_score() -> None:
    if not (DATA / "labels.json").exists():
        pytest.skip("nab/labels.json is not here")
    outcomes = anomaly.run(DATA)
    both, z = outcomes[anomaly.BOTH], outcomes[anomaly.Z]
    assert both.total.windows == z.total.windows == 37
    assert both.total.precision > z.total.precision + 0.05
    assert both.total.recall > z.total.recall
    assert both.area > max(z.area, outcomes[anomaly.Z_MEAN].area) + 0.1


def test_a_server_that_runs_is_used_again_and_again(tmp_path: Path, server: ServerThread) -> None:
    write(tmp_path, series=1)
    first, second = (anomaly.run(tmp_path, server.target)[anomaly.BOTH] for _ in range(2))
    assert first == second


def test_a_request_that_fails_ends_it(server: ServerThread) -> None:
    values = np.full(200, 1e31)
    series = labelled.Series("made", np.arange(200).astype("datetime64[s]"), values, ())
    with Client(server.target) as client, pytest.raises(StatecastError, match="values"):
        anomaly.stream(client, [series])


def test_rows_with_the_same_timestamp_count_once(tmp_path: Path) -> None:
    write(tmp_path, series=1)
    (series,) = labelled.read_series(tmp_path)
    assert len(series.values) == len(series.times) == ROWS
    assert [last - first for first, last in series.windows] == [2 * LASTS] * 3


def test_alarms_are_peaks_apart_and_windows_count_once() -> None:
    score = np.zeros(400)
    score[[10, 100, 120, 200, 320]] = [9.0, 5.0, 4.0, 3.0, 2.0]
    times = np.arange(400).astype("datetime64[s]")
    series = labelled.Series("made", times, score, ((90, 260), (310, 330), (340, 350)))
    alarms = labelled.alarms_of(series, score)
    # Row 10 lies in the probation, and 120 next to 100.
    assert [(alarm.row, alarm.window) for alarm in alarms[:3]] == [(100, 0), (200, 0), (320, 1)]
    figures = labelled.judge([*alarms[:3], labelled.Alarm("made", 70, 1.0, None)], 3)
    assert (figures.alarms, figures.right, figures.found) == (4, 3, 2)
    assert [figures.precision, figures.recall] == pytest.approx([3 / 4, 2 / 3])
    assert labelled.average_precision(alarms[:3], 3) == pytest.approx(2 / 3)


def test_scores_of_the_past_do_not_depend_on_what_comes() -> None:
    values = np.random.default_rng(1).normal(size=900).cumsum()
    changed = np.append(values[:600], values[600:] + 40)
    for score in (anomaly.z_scores, anomaly.deviation):
        assert score(changed)[:600] == pytest.approx(score(values)[:600])
        assert np.abs(score(changed)[600:]).max() > np.abs(score(values)[100:]).max()


def test_a_value_in_a_forecast_and_its_pit_give_the_same_score() -> None:
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantiles = np.array([NormalDist(3, 2).inv_cdf(level) for level in levels], np.float32)
    forecast = Forecast(
        "a", Version(1, 0), False, False, None, "", ("value",), levels, np.tile(quantiles, (5, 1))[..., None]
    )
    values = np.array([-5.0, 1.0, 3.0, 3.5, 11.0])
    assert anomaly.of_forecast(forecast, values) == pytest.approx((values - 3) / 2, abs=0.01)
    pit = np.array([NormalDist(3, 2).cdf(value) for value in values], np.float32)
    assert anomaly.of_pit(pit) == pytest.approx((values - 3) / 2, abs=0.02)
    assert anomaly.of_pit(np.array([np.nan, 0, 1], np.float32)) == pytest.approx([0, -5.2, 5.2], abs=0.01)
    # Of a constant series' quantiles the value in the middle is no surprise, and any other one is.
    constant = replace(forecast, values=np.full((3, 5, 1), 7, np.float32))
    scores = anomaly.of_forecast(constant, np.array([6.0, 7.0, 8.0]))
    assert scores[1] == pytest.approx(0)
    assert scores[0] < -1
    assert scores[2] > 1
