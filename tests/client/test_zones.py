"""Time zones have the names that the server knows."""

import warnings
from datetime import UTC, timedelta, timezone
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.tz  # type: ignore[import-untyped]
import pytest
import pytz  # type: ignore[import-untyped]

from statecast.client._zones import zone_name

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (UTC, "UTC"), (ZoneInfo("UTC"), "UTC"), (BERLIN, "Europe/Berlin"),
        (pytz.timezone("Asia/Kolkata"), "Asia/Kolkata"),
        (timezone(timedelta(hours=-3, minutes=-30)), "-03:30"), (pytz.FixedOffset(60), "+01:00"), (None, ""),
        (dateutil.tz.tzutc(), "UTC"), (dateutil.tz.tzoffset(None, 3600), "+01:00"), (pytz.utc, "UTC"),
    ],
)  # fmt: skip
def test_zones_are_called_as_the_server_knows_them(zone: Any, name: str) -> None:
    assert zone_name(zone) == name


def test_a_zone_without_a_name_is_warned_about_once() -> None:
    with resources.files("tzdata.zoneinfo").joinpath("Europe/Madrid").open("rb") as file:
        zone = ZoneInfo.from_file(file)
    with pytest.warns(UserWarning, match="time_zone='Europe/Berlin'"):
        assert zone_name(zone) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert zone_name(zone) == ""
