"""Where calls come in: a gRPC server in this process, or several in processes of their own that pass them on."""
