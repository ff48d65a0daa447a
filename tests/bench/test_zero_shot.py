"""Zero-shot accuracy: sets that are there are read, and a series that repeats is forecast better than naively."""

from pathlib import Path

import numpy as np
import pandas as pd
from bench.zero_shot import main
from click.testing import CliRunner


def test_what_is_there_is_forecast(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = 50 + 10 * np.sin(2 * np.pi * np.arange(620) / 20) + rng.normal(size=620)
    (tmp_path / "nab").mkdir()
    pd.DataFrame({"value": values}).to_csv(tmp_path / "nab" / "waves.csv", index=False)
    hours = pd.DataFrame([values[:400]], index=["H1"])
    hours.to_csv(tmp_path / "Hourly-train.csv")
    pd.DataFrame([values[400:448]], index=["H1"]).to_csv(tmp_path / "Hourly-test.csv")
    told = CliRunner().invoke(main, ["--data", str(tmp_path), "--threads", "1"], catch_exceptions=False).output
    m4, naive, ratios, losses, held = told.splitlines()
    scores = [float(line.split("MASE ")[1].split(",")[0]) for line in (m4, naive)]
    assert scores[0] < 0.5 * scores[1]
    assert ratios.startswith("1 series of clouds")
    assert all(float(share) < 0.3 for share in (ratios.split("MAE ")[1][:5], ratios.split(", ")[2][:5]))
    assert losses.startswith("it loses to either on 0")
    assert held.endswith(("0%", "100%"))
