// The service's client, and what its errors say.
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";
import type { ProtoGrpcType } from "./generated/forecast_service";
import type { BadRequest__Output } from "./generated/google/rpc/BadRequest";
import type { ErrorInfo__Output } from "./generated/google/rpc/ErrorInfo";
import type { Status__Output } from "./generated/google/rpc/Status";
import type { ForecastServiceClient } from "./generated/statecast/v1/ForecastService";

// keepCase: else the loader expects requestId, and drops request_id. longs: a version's tag has 64 bits.
const options = { keepCase: true, longs: String, defaults: true, oneofs: true, includeDirs: [join(__dirname, "../../../proto")] };
const files = ["statecast/v1/forecast_service.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];
const definitions = protoLoader.loadSync(files, options);
const loaded = grpc.loadPackageDefinition(definitions) as unknown as ProtoGrpcType;

export function connect(target: string): ForecastServiceClient {
  return new loaded.statecast.v1.ForecastService(target, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1, // answers to large frames are larger than 4 MiB
    "grpc.keepalive_time_ms": 10_000, // a server that has vanished is noticed
    "grpc.max_reconnect_backoff_ms": 1_000,
  });
}

function decode<T>(name: string, bytes: Uint8Array): T {
  const definition = definitions[name] as protoLoader.MessageTypeDefinition<object, object>;
  return definition.deserialize(Buffer.from(bytes)) as T;
}

// The reason of an error, and the fields at fault: of a failed call, or of one result in a stream.
export function explain(failure: grpc.ServiceError | Status__Output): string {
  const trailer = "metadata" in failure ? failure.metadata.get("grpc-status-details-bin")[0] : undefined;
  const status = trailer instanceof Buffer ? decode<Status__Output>("google.rpc.Status", trailer) : failure;
  if (!("message" in status) || !Array.isArray(status.details)) {
    return `${grpc.status[failure.code]}: ${failure.details}`; // found by the client itself: no server said it
  }
  let reason = "", problem = status.message;
  for (const detail of status.details) {
    if (detail.type_url?.endsWith("/google.rpc.ErrorInfo")) {
      reason = decode<ErrorInfo__Output>("google.rpc.ErrorInfo", detail.value as Buffer).reason;
    } else if (detail.type_url?.endsWith("/google.rpc.BadRequest")) {
      const { field_violations } = decode<BadRequest__Output>("google.rpc.BadRequest", detail.value as Buffer);
      problem = field_violations.map(({ field, description }) => `${field} is at fault: ${description}`).join();
    }
  }
  return `${reason}: ${problem}`;
}
