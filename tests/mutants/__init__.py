"""Seeded bugs in the exactly-once machinery, and whether the tests notice each of them."""
