"""Fused kernels for the CPU: one step, and the forecasts, in a few passes over a session's row, without the GIL."""
