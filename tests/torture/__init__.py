"""Fault injection under load, with checks that every session matches the answers to its callers."""
