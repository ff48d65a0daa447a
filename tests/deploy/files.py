"""The files that an operator deploys, as these tests read them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus-rules.yml"
_COMPARISON = re.compile(r"(.*) (?:<|>|==) ([\d.]+)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{\w+:-(.*?)\}")


def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    """Return a compose file, with the default of each variable."""
    text = _VARIABLE.sub(r"\1", (ROOT / name).read_text())
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def rules() -> list[dict[str, Any]]:
    """Return the alerts."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def rule(name: str) -> dict[str, Any]:
    """Return an alert."""
    (found,) = (each for each in rules() if each["alert"] == name)
    return found


def measured(expression: str) -> Iterator[str]:
    """Yield what an alert compares with its bounds: it has a value even where nothing is wrong."""
    for part in expression.split(" and "):
        found = _COMPARISON.fullmatch(part.strip())
        assert found, f"not a comparison with a number: {part}"
        yield found[1]


def seconds(duration: str) -> float:
    """Return a duration such as 10s or 1m in seconds."""
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]
