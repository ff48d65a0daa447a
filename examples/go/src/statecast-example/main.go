// Streams three series to the server, each value answered with a forecast. Kill the server meanwhile: nothing is lost.
//
//	./statecast-example [target] [prefix of the sessions] [values of each]
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "statecast-example/statecast/v1"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	target, prefix := argument(1, "localhost:50051"), argument(2, "go")
	count, err := strconv.Atoi(argument(3, "100"))
	if err != nil {
		return fmt.Errorf("the number of values: %w", err)
	}
	connection, err := dial(target)
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewForecastServiceClient(connection)
	beRefused(ctx, client, prefix)
	all := map[string]*series{}
	for number := 1; number <= 3; number++ {
		each := &series{id: fmt.Sprintf("%s-%d", prefix, number), values: wave(count, number)}
		all[each.id] = each
		if err := open(ctx, client, each); err != nil {
			return err
		}
	}
	if err := streamAll(ctx, client, all); err != nil {
		return err
	}
	for id := range all {
		if err := report(ctx, client, id, count); err != nil {
			return err
		}
	}
	return nil
}

func argument(at int, otherwise string) string {
	if len(os.Args) > at {
		return os.Args[at]
	}
	return otherwise
}

func dial(target string) (*grpc.ClientConn, error) {
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = time.Second
	return grpc.Dial(target,
		grpc.WithInsecure(), // newer releases: grpc.WithTransportCredentials(insecure.NewCredentials())
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second}), // a server that has vanished is noticed
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	)
}

func wave(count, number int) []float64 {
	values := make([]float64, count)
	for hour := range values {
		values[hour] = 20 + 5*math.Sin(float64(hour+8*number)*math.Pi/12)
	}
	return values
}

// beRefused shows what a refused request says about itself.
func beRefused(ctx context.Context, client pb.ForecastServiceClient, prefix string) {
	request := &pb.ForecastRequest{
		SessionId:    prefix + "-1",
		Open:         &pb.OpenOptions{},
		Observations: &pb.Observations{Values: []float64{1e40}},
	}
	err := answered(ctx, func(ctx context.Context) error {
		_, err := client.Forecast(ctx, request)
		return err
	})
	fmt.Printf("refused: %s\n", explain(status.Convert(err)))
}

// open sends the first value of a series, which opens its session.
func open(ctx context.Context, client pb.ForecastServiceClient, each *series) error {
	request, err := each.next()
	if request == nil || err != nil {
		return err
	}
	var answer *pb.ForecastResponse
	err = answered(ctx, func(ctx context.Context) (err error) {
		answer, err = client.Forecast(ctx, request)
		return err
	})
	if err != nil {
		return err
	}
	if err := each.take(answer); err != nil {
		return err
	}
	_, err = each.next()
	return err
}

// streamAll streams until every value is answered. A stream that breaks is followed by another.
func streamAll(ctx context.Context, client pb.ForecastServiceClient, all map[string]*series) error {
	for pause := newAttempts(); ; {
		before := sent(all)
		err := stream(ctx, client, all)
		if err == nil || !isRetryable(status.Code(err)) {
			return err
		}
		if sent(all) > before { // it went on, so patience begins anew
			pause = newAttempts()
		}
		fmt.Printf("the stream broke, %s; sending again what is unanswered\n", explain(status.Convert(err)))
		if err := pause.wait(ctx, err); err != nil {
			return err
		}
	}
}

func sent(all map[string]*series) (total int) {
	for _, each := range all {
		total += each.sent
	}
	return total
}

// stream sends what is in flight and then value after value.
func stream(ctx context.Context, client pb.ForecastServiceClient, all map[string]*series) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	calls, err := client.ForecastStream(ctx)
	if err != nil {
		return err
	}
	frame := &pb.ForecastStreamRequest{}
	for _, each := range all {
		if each.request != nil {
			frame.Requests = append(frame.Requests, each.request)
		}
	}
	for open := len(frame.Requests); open > 0; {
		if err := calls.Send(frame); err != nil && err != io.EOF { // after EOF, Recv says why
			return err
		}
		results, err := calls.Recv()
		if err == io.EOF {
			return status.Error(codes.Unavailable, "the stream ended")
		}
		if err != nil {
			return err
		}
		frame = &pb.ForecastStreamRequest{}
		for _, result := range results.Results {
			request, err := settle(ctx, result, all)
			if err != nil {
				return err
			}
			if request == nil {
				open--
			} else {
				frame.Requests = append(frame.Requests, request)
			}
		}
	}
	return calls.CloseSend()
}

// settle takes one result; it returns the next request of the series, or the same one again.
func settle(ctx context.Context, result *pb.ForecastResult, all map[string]*series) (*pb.ForecastRequest, error) {
	if answer := result.GetResponse(); answer != nil {
		each := all[answer.SessionId]
		if err := each.take(answer); err != nil {
			return nil, err
		}
		return each.next()
	}
	failure := status.FromProto(result.GetStatus())
	if !isRetryable(failure.Code()) {
		return nil, failure.Err()
	}
	each := all[result.SessionId]
	if err := each.attempts.wait(ctx, failure.Err()); err != nil {
		return nil, err
	}
	return each.request, nil
}

// report shows where a session stands.
func report(ctx context.Context, client pb.ForecastServiceClient, id string, count int) error {
	return answered(ctx, func(ctx context.Context) error {
		answer, err := client.GetSession(ctx, &pb.GetSessionRequest{SessionId: id})
		if err == nil {
			fmt.Printf("%s: %d values sent, at step %d\n", id, count, answer.GetSession().GetVersion().GetStep())
		}
		return err
	})
}
