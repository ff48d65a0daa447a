"""What breaks, how often, under what load, and whether every session still is what its callers were told."""
