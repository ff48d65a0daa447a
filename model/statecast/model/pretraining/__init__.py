"""Trains the bundled model on synthetic series."""
