"""Read files of time series into panels for training and evaluation."""

from ..data.findings import Finding, Findings
from ..data.layout import Layout
from ..data.panel import Panel, Series
from ..data.reading import read_panel

__all__ = ["Finding", "Findings", "Layout", "Panel", "Series", "read_panel"]
