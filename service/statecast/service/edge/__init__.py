"""gRPC transport: in the engine process, or with --workers in separate worker processes.

transport.py is the gRPC server and standard.py its health and reflection services. inside.py runs them in the engine
process. With workers, front.py runs in each worker process, and link.py is its protocol with the engine process. There
fronts.py starts and replaces workers, and calls.py answers the calls that they forward.
"""
