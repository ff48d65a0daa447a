"""Print the messages that sequences send to Triton, in base64.

    python requests.py SEQUENCES

Each sequence has one line: its first message, and the message that it sends from then on.
"""

import base64
import struct
import sys

from tritonclient.grpc import service_pb2


def message(sequence: int, *, begins: bool) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="forecasts")
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_start"].bool_param = begins
    request.parameters["sequence_end"].bool_param = False
    value = request.inputs.add(name="VALUE", datatype="FP32")
    value.shape.extend((1, 1))
    request.raw_input_contents.append(struct.pack("<f", 1.0))
    serialized: bytes = request.SerializeToString()
    return serialized


if __name__ == "__main__":
    for sequence in range(1, int(sys.argv[1]) + 1):
        print(*(base64.b64encode(message(sequence, begins=begins)).decode() for begins in (True, False)))
