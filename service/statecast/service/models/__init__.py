"""The loaded models, and the watcher of the models folder."""
