"""Turns API keys, JSON Web Tokens and client certificates into principals: who calls, and what they may do."""
