package example;

import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.EnumSet;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Supplier;

/** Repeats what has an unknown outcome. That is safe: the request's id and last_seen stay the same. */
final class Attempts {
  private static final long PATIENCE_NANOS = 60_000_000_000L;
  private static final Set<Status.Code> RETRYABLE =
      EnumSet.of(
          Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED, Status.Code.CANCELLED, Status.Code.RESOURCE_EXHAUSTED);

  private final ManagedChannel channel;
  private final long begun = System.nanoTime();
  private long delayMillis = 100;

  Attempts(ManagedChannel channel) {
    this.channel = channel;
  }

  static boolean isRetryable(StatusRuntimeException failure) {
    return RETRYABLE.contains(failure.getStatus().getCode());
  }

  /** Makes a unary call until it is answered; each attempt has a deadline of its own. */
  static <T> T answered(ManagedChannel channel, Supplier<T> call) throws InterruptedException {
    Attempts attempts = new Attempts(channel);
    while (true) {
      try {
        return call.get();
      } catch (StatusRuntimeException failure) {
        if (!isRetryable(failure)) {
          throw failure;
        }
        System.out.println("again, after " + Errors.explain(failure));
        attempts.pause(failure);
      }
    }
  }

  /** Waits before the next attempt; throws the failure once patience has run out. */
  void pause(StatusRuntimeException failure) throws InterruptedException {
    if (System.nanoTime() - begun > PATIENCE_NANOS) {
      throw failure;
    }
    Thread.sleep((long) (delayMillis * ThreadLocalRandom.current().nextDouble(0.5, 1.5)));
    delayMillis = Math.min(2 * delayMillis, 2_000);
    channel.resetConnectBackoff(); // else the channel itself waits for longer
  }
}
