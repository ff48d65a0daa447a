"""The server: gRPC at the edge, a synchronous engine inside, sessions in Redis."""
