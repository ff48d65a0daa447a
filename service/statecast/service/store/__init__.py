"""Redis: one record a session, many loaded or committed in one round trip."""
