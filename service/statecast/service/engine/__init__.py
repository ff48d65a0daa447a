"""The synchronous core: turns requests into batches, runs each through load, advance and commit, returns outcomes."""
