"""Names of systems, modes and models in the findings."""

OURS, GRPCIO, SECURED = "statecast", "statecast --transport grpc", "statecast, TLS, API key"
ECHO, HANDWRITTEN, TRITON = "echo", "handwritten", "triton"

PLAIN, USUAL = "bench", "usual"
"""The models."""

UNARY, STREAM = "unary", "stream"
CLIENT = "AsyncClient"
FRAMES, OBSERVE = "frames", "frames, observe only"
COLD, WARM = "frames, any session", "frames, same sessions"
CATCH_UP = "catch-up"
