package example;

import com.google.protobuf.Duration;
import com.statecast.v1.Forecast;
import com.statecast.v1.ForecastRequest;
import com.statecast.v1.ForecastResponse;
import com.statecast.v1.Observations;
import com.statecast.v1.OpenOptions;
import com.statecast.v1.Version;
import java.util.List;
import java.util.UUID;

/** One session and the values to send to it. One request is in flight at a time, so that their order holds. */
final class Series {
  private final String id;
  private final double[] values;
  private int sent;
  private Version lastSeen = Version.getDefaultInstance();
  private ForecastRequest request; // the one in flight; it is repeated as it is

  Series(String id, double[] values) {
    this.id = id;
    this.values = values;
  }

  String id() {
    return id;
  }

  int sent() {
    return sent;
  }

  /** Returns the request in flight; null once all values are answered. */
  ForecastRequest request() {
    return request;
  }

  /** Makes the next request; returns false after the last value. */
  boolean next() {
    if (sent == values.length) {
      request = null;
      return false;
    }
    ForecastRequest.Builder next =
        ForecastRequest.newBuilder()
            .setSessionId(id)
            .setObservations(Observations.newBuilder().addValues(values[sent]))
            .setHorizon(1)
            .addAllQuantileLevels(List.of(0.1, 0.5, 0.9))
            .setRequestId(UUID.randomUUID().toString())
            .setLastSeen(lastSeen)
            .setTimeout(Duration.newBuilder().setSeconds(10)); // a stream has no deadline
    if (sent == 0) {
      next.setOpen(OpenOptions.getDefaultInstance()); // later, a session that is gone is an error, not a new one
    }
    sent++;
    request = next.build();
    return true;
  }

  /** Notes the answer to the request in flight. */
  void take(ForecastResponse answer) {
    lastSeen = answer.getVersion();
    if (lastSeen.getStep() % 10 == 0) {
      Forecast forecast = answer.getForecast();
      System.out.printf(
          "%s step %d: next %.1f (%.1f to %.1f)%n",
          id, lastSeen.getStep(), forecast.getValues(1), forecast.getValues(0), forecast.getValues(2));
    }
  }
}
