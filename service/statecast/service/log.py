"""One format for every line of the server's log."""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Log to standard error from this level on."""
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format=FORMAT)
    # gRPC logs a traceback for each call that the transport ended early, such as one with a message too large.
    logging.getLogger("grpc._cython.cygrpc").addFilter(
        lambda record: not str(record.msg).startswith("ExecuteBatchError")
    )
