"""Input that no honest client sends: messages, bytes, streams and connections."""
