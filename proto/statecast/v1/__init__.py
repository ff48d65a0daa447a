"""Messages and stubs of the package statecast.v1, generated from the .proto files in this folder."""
