"""The synchronous core: requests in, batches through load, advance and commit, outcomes out."""
