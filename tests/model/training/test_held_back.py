"""Held-back rows lie at the end of a series, or earlier if its end cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.panels import panel_of, waves

from statecast.model.errors import DataError
from statecast.model.training.held_back import HeldBack, hold_back

HORIZON = 12


def cutoffs(held: HeldBack) -> list[list[int]]:
    return [each.tolist() for each in held.cutoffs]


def found(held: HeldBack, kind: str = "moved") -> list[str]:
    return [str(each) for each in held.learned.findings.items if each.kind == kind]


def wave(rows: int = 800) -> NDArray[np.float64]:
    return np.asarray(waves(rows, series=1)[0], np.float64)


def test_an_eighth_is_held_back() -> None:
    values = [*waves(800, series=2), np.arange(150.0)]
    held = hold_back(panel_of(*values), HORIZON)
    assert [each.rows for each in held.learned.series] == [700, 700, 150]
    assert [each.rows for each in held.validated.series] == [800, 800]
    assert cutoffs(held) == [[700, 712, 724, 736, 748, 760, 772, 784]] * 2
    assert (held.protocol.first_cutoff, held.protocol.windows, held.protocol.stride) == (-100, 8, 12)
    assert not found(held)


def test_no_more_than_twenty_horizons_are_held_back() -> None:
    held = hold_back(panel_of(wave(8000)), 5)
    assert (held.protocol.first_cutoff, held.protocol.windows, held.protocol.stride) == (-100, 20, 5)


def test_what_is_held_back_can_be_chosen() -> None:
    held = hold_back(panel_of(wave()), HORIZON, 40)
    assert held.learned.series[0].rows == 760
    assert (held.protocol.first_cutoff, held.protocol.windows) == (-40, 3)
    with pytest.raises(DataError, match="11 rows are fewer than a horizon of 12"):
        hold_back(panel_of(wave()), HORIZON, 11)
    with pytest.raises(DataError, match="no series has 1000 rows"):
        hold_back(panel_of(wave()), HORIZON, 500)


def test_a_series_with_nothing_before_what_is_held_back_is_not_validated() -> None:
    late = np.append(np.full(720, np.nan), np.arange(80.0))
    held = hold_back(panel_of(*waves(800, series=2), late), HORIZON)
    assert (len(held.learned.series), len(held.validated.series)) == (3, 2)
    assert found(held, "unvalidated") == [
        "series left out of validation: too short for --validation-rows, or too few values: 1 ('s2')"
    ]
    assert held.summary() == ("validated on 8 windows of 12 steps in 2 of 3 series, learned from 2,200 of 2,400 rows")
    with pytest.raises(DataError, match="no series of 200 rows has values"):
        hold_back(panel_of(late), HORIZON)


def test_windows_lie_before_a_blank_end() -> None:
    values = wave()
    values[690:] = np.nan
    held = hold_back(panel_of(values, wave()), HORIZON)
    # The number of windows and their distance stay the same, but all lie before row 690.
    assert cutoffs(held) == [[592, 604, 616, 628, 640, 652, 664, 676], [700, 712, 724, 736, 748, 760, 772, 784]]
    assert [each.rows for each in held.learned.series] == [592, 700]
    assert found(held) == ["series without values near their end, validated on earlier rows: 1 ('s0')"]


def test_windows_lie_around_a_hole() -> None:
    values = wave()
    values[730:760] = np.nan
    assert cutoffs(hold_back(panel_of(values), HORIZON)) == [[676, 688, 700, 712, 724, 760, 772, 784]]


def test_a_series_that_is_seldom_observed_is_validated_at_its_end() -> None:
    values = np.where(np.arange(800) % 5 == 0, wave(), np.nan)
    held = hold_back(panel_of(values), HORIZON, season=10)
    assert (held.cutoffs[0][0], held.protocol.windows) == (700, 8)
    assert not found(held)


@pytest.mark.parametrize(("end", "last"), [(770, 784), (200, 784)], ids=["late", "early"])
def test_one_target_that_ends_early_does_not_move_the_windows(end: int, last: int) -> None:
    values = np.column_stack([wave(), wave()])
    values[end:, 1] = np.nan
    panel = replace(panel_of(values), targets=("y", "b"))
    held = hold_back(panel, HORIZON)
    assert (cutoffs(held)[0][-1], held.learned.rows) == (last, 700)
    assert not found(held)
    assert found(held, "unscored") == (
        ["targets without a value in the validation rows, not scored: 1 ('s0 b')"] if end == 200 else []
    )


def test_what_never_changes_is_refused_before_any_training() -> None:
    with pytest.raises(DataError, match=r"no series has two values one season \(24 steps\) apart that differ"):
        hold_back(panel_of(np.full(800, 5.0)), HORIZON, season=24)
    # One series that varies is enough.
    assert len(hold_back(panel_of(np.full(800, 5.0), wave()), HORIZON).validated.series) == 2


def test_fewer_windows_are_better_than_none() -> None:
    values = wave()
    values[:700] = np.where(np.arange(700) < 30, values[:700], np.nan)
    values[740:] = np.nan
    held = hold_back(panel_of(values), HORIZON)
    assert cutoffs(held) == [[700, 712, 724, 736]]
    assert held.protocol.windows == 4
    assert "4 windows of 12 steps (8 were planned, the others have no values)" in held.summary()


def test_only_a_few_series_are_named() -> None:
    ends = [np.append(values[:690], np.full(110, np.nan)) for values in waves(800, series=5)]
    assert found(hold_back(panel_of(*ends), HORIZON))[0].endswith(": 5 ('s0', 's1', 's2', ...)")


def test_outliers_are_missing_in_validation_and_stay_in_training() -> None:
    values = wave()
    values[[600, 750]] = 1e6
    held = hold_back(panel_of(values), HORIZON)
    assert np.flatnonzero(np.isnan(held.validated.series[0].values[:, 0])).tolist() == [600, 750]
    assert held.learned.series[0].values[600] == held.whole.series[0].values[750] == 1e6
    assert cutoffs(held)[0][-1] == 784
    assert len(found(held, "outlier")) == 1


def test_a_target_without_any_value_is_named() -> None:
    panel = replace(panel_of(np.column_stack([wave(), np.full(800, np.nan)])), targets=("y", "empty"))
    with pytest.raises(DataError, match="column 'empty' has no values at all; leave it out"):
        hold_back(panel, HORIZON)
