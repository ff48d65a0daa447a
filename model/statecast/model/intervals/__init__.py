"""Prediction intervals: their calibration per session, and the position of a value among quantiles."""
