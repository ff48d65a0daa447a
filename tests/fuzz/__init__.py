"""A fuzzer that sends a server messages, bytes, streams and connections that no well-behaved client sends."""
