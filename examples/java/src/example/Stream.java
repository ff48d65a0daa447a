package example;

import com.statecast.v1.ForecastRequest;
import com.statecast.v1.ForecastResult;
import com.statecast.v1.ForecastServiceGrpc;
import com.statecast.v1.ForecastStreamRequest;
import com.statecast.v1.ForecastStreamResponse;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.function.Function;
import java.util.stream.Collectors;

/** One stream: sends what is in flight and then value after value, until all are answered or it breaks. */
final class Stream implements StreamObserver<ForecastStreamResponse> {
  private final ManagedChannel channel;
  private final Map<String, Series> all;
  private final CompletableFuture<Void> ended = new CompletableFuture<>();
  private final Map<Series, Attempts> attempts = new HashMap<>(); // of requests that were refused for now
  private StreamObserver<ForecastStreamRequest> requests;

  Stream(ManagedChannel channel, List<Series> all) {
    this.channel = channel;
    this.all = all.stream().collect(Collectors.toMap(Series::id, Function.identity()));
  }

  /** Runs until every value is answered; throws if the stream breaks first. */
  void run() throws InterruptedException {
    synchronized (this) { // so that no answer comes before the requests are known
      requests = ForecastServiceGrpc.newStub(channel).forecastStream(this);
      send(all.values().stream().map(Series::request).filter(Objects::nonNull).toList());
    }
    try {
      ended.get();
    } catch (ExecutionException failed) {
      throw failed.getCause() instanceof StatusRuntimeException failure
          ? failure
          : Status.fromThrowable(failed.getCause()).asRuntimeException();
    }
  }

  @Override
  public synchronized void onNext(ForecastStreamResponse results) {
    try {
      for (ForecastResult result : results.getResultsList()) {
        settle(result);
      }
    } catch (StatusRuntimeException failure) {
      ended.completeExceptionally(failure);
      requests.onError(failure);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      requests.onError(interrupted);
    }
  }

  @Override
  public void onError(Throwable failure) {
    ended.completeExceptionally(failure);
  }

  @Override
  public void onCompleted() {
    ended.complete(null);
  }

  /** Takes one result; sends the next request of its series, or the same one again. */
  private void settle(ForecastResult result) throws InterruptedException {
    Series series = all.get(result.hasResponse() ? result.getResponse().getSessionId() : result.getSessionId());
    if (result.hasResponse()) {
      attempts.remove(series);
      series.take(result.getResponse());
      series.next();
    } else {
      StatusRuntimeException failure = StatusProto.toStatusRuntimeException(result.getStatus());
      if (!Attempts.isRetryable(failure)) {
        throw failure;
      }
      attempts.computeIfAbsent(series, each -> new Attempts(channel)).pause(failure);
    }
    if (series.request() != null) {
      send(List.of(series.request()));
    } else if (all.values().stream().allMatch(each -> each.request() == null)) {
      requests.onCompleted();
    }
  }

  private void send(List<ForecastRequest> frame) {
    requests.onNext(ForecastStreamRequest.newBuilder().addAllRequests(frame).build());
  }
}
