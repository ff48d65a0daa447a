"""Fuzzes a server with messages, bytes, streams and connections that no well-behaved client sends."""
