"""The wire: messages and stubs of package statecast.v1, generated from the .proto files beside this one."""
