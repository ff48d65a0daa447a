"""Training on one's own data: reading it into a panel of regular series."""

from .findings import Finding, Findings
from .layout import Layout
from .panel import Panel, Series
from .reading import read_panel

__all__ = ["Finding", "Findings", "Layout", "Panel", "Series", "read_panel"]
