"""Mutation tests: seeded bugs in the exactly-once code, each of which the tests must catch."""
