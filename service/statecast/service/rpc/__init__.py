"""The gRPC services: each method converts its message, calls the engine, and converts the result back."""
