"""Mutation tests: bugs added to the exactly-once code, which the tests must catch."""
