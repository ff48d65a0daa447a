"""Session records in Redis, one per session; a batch is loaded or committed in one round trip."""
