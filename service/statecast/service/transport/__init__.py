"""Two transports that carry calls to the same methods: grpcio.py in this process, and asgi.py behind Envoy.

place.py is the address, standard.py the health and reflection services, framing.py what gRPC says about bytes.
"""
