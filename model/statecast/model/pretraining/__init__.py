"""Train the bundled model on synthetic series."""
