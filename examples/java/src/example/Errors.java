package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.stream.Collectors;

/** Says what errors say about themselves: the reason, and the fields at fault. */
final class Errors {
  private Errors() {}

  static String explain(StatusRuntimeException failure) {
    Status status = StatusProto.fromThrowable(failure);
    return status == null ? failure.getMessage() : explain(status, failure.getStatus().getCode().name());
  }

  private static String explain(Status status, String code) {
    String reason = code;
    String problem = status.getMessage();
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(BadRequest.class)) {
          problem =
              detail.unpack(BadRequest.class).getFieldViolationsList().stream()
                  .map(violation -> violation.getField() + " is at fault: " + violation.getDescription())
                  .collect(Collectors.joining(", "));
        }
      }
    } catch (InvalidProtocolBufferException damaged) {
      return code + ": " + status.getMessage();
    }
    return reason + ": " + problem;
  }
}
