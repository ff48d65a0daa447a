"""Limits that the client, the service and the models share."""

MAX_MAGNITUDE = 1e30
"""Largest magnitude of an observed value, so that float32 sums of squares stay finite."""
