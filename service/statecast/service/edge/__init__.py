"""Where calls come in: a gRPC server in this process, or with --workers several in processes of their own.

transport.py is the gRPC server in either case, standard.py its health and reflection, and inside.py puts it into the
engine's process. With workers front.py is what runs in each of their processes, and link.py what goes between it and
the engine's process, where fronts.py starts and replaces workers, and calls.py answers what they pass on.
(engine/threads.py is the engine's threads.)
"""
