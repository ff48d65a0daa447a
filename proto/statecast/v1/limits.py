"""Limits that the client, the service and the models share."""

MAX_MAGNITUDE = 1e30
"""The largest value that an observation may have, in magnitude; float32 sums of squares stay finite."""
