"""Messages and stubs of the Open Inference Protocol, generated from the .proto file.

They have the protocol's own names, so a process cannot import them together with another library's.
"""
