"""gRPC by Envoy: launcher.py starts it with the configuration of configuration.py, and the server runs inside it.

Within Envoy, pyvoy imports `app` of inside.py. control.py is the connection between the two processes, admin.py is
Envoy's admin interface.
"""
