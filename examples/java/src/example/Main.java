package example;

import com.statecast.v1.ForecastRequest;
import com.statecast.v1.ForecastServiceGrpc;
import com.statecast.v1.ForecastServiceGrpc.ForecastServiceBlockingStub;
import com.statecast.v1.GetSessionRequest;
import com.statecast.v1.Observations;
import com.statecast.v1.OpenOptions;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/**
 * Streams three series to the server, each value answered with a forecast. Kill the server meanwhile: nothing is lost.
 * Arguments: target, prefix of the sessions, values of each.
 */
public final class Main {
  private static final long ATTEMPT_SECONDS = 5;

  private final ManagedChannel channel;
  private final String prefix;
  private final int count;

  private Main(ManagedChannel channel, String prefix, int count) {
    this.channel = channel;
    this.prefix = prefix;
    this.count = count;
  }

  public static void main(String[] args) throws InterruptedException {
    String target = args.length > 0 ? args[0] : "localhost:50051";
    String prefix = args.length > 1 ? args[1] : "java";
    int count = args.length > 2 ? Integer.parseInt(args[2]) : 100;
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget(target)
            .usePlaintext()
            .keepAliveTime(10, TimeUnit.SECONDS) // a server that has vanished is noticed
            .maxInboundMessageSize(Integer.MAX_VALUE) // large frames have large answers
            .build();
    try {
      new Main(channel, prefix, count).run();
    } finally {
      channel.shutdownNow().awaitTermination(ATTEMPT_SECONDS, TimeUnit.SECONDS);
    }
  }

  private void run() throws InterruptedException {
    beRefused();
    List<Series> all =
        IntStream.rangeClosed(1, 3).mapToObj(number -> new Series(prefix + "-" + number, wave(number))).toList();
    for (Series series : all) {
      open(series);
    }
    streamAll(all);
    for (Series series : all) {
      GetSessionRequest asked = GetSessionRequest.newBuilder().setSessionId(series.id()).build();
      long step = Attempts.answered(channel, () -> stub().getSession(asked)).getSession().getVersion().getStep();
      System.out.printf("%s: %d values sent, at step %d%n", series.id(), count, step);
    }
  }

  /** Returns a client whose call has a deadline from now on. */
  private ForecastServiceBlockingStub stub() {
    return ForecastServiceGrpc.newBlockingStub(channel).withDeadlineAfter(ATTEMPT_SECONDS, TimeUnit.SECONDS);
  }

  private double[] wave(int number) {
    return IntStream.range(0, count).mapToDouble(hour -> 20 + 5 * Math.sin((hour + 8 * number) * Math.PI / 12)).toArray();
  }

  /** Shows what a refused request says about itself. */
  private void beRefused() throws InterruptedException {
    ForecastRequest request =
        ForecastRequest.newBuilder()
            .setSessionId(prefix + "-1")
            .setOpen(OpenOptions.getDefaultInstance())
            .setObservations(Observations.newBuilder().addValues(1e40))
            .build();
    try {
      Attempts.answered(channel, () -> stub().forecast(request));
    } catch (StatusRuntimeException refused) {
      System.out.println("refused: " + Errors.explain(refused));
    }
  }

  /** Sends the first value of a series, which opens its session. */
  private void open(Series series) throws InterruptedException {
    if (series.next()) {
      series.take(Attempts.answered(channel, () -> stub().forecast(series.request())));
      series.next();
    }
  }

  /** Streams until every value is answered. A stream that breaks is followed by another. */
  private void streamAll(List<Series> all) throws InterruptedException {
    Attempts attempts = new Attempts(channel);
    while (all.stream().anyMatch(series -> series.request() != null)) {
      long answered = all.stream().mapToLong(Series::sent).sum();
      try {
        new Stream(channel, all).run();
      } catch (StatusRuntimeException broken) {
        if (!Attempts.isRetryable(broken)) {
          throw broken;
        }
        if (all.stream().mapToLong(Series::sent).sum() > answered) {
          attempts = new Attempts(channel); // it went on, so patience begins anew
        }
        System.out.println("the stream broke, " + Errors.explain(broken) + "; sending again what is unanswered");
        attempts.pause(broken);
      }
    }
  }
}
