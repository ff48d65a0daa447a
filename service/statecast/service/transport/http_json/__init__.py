"""HTTP/JSON: the unary methods at the paths of their google.api.http annotations, as proto3 JSON."""
