"""Fault injection under load; checks that every session matches what its callers were told."""
