"""The edge: gRPC in and out. Servicers convert, call the engine, and convert back."""
