package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const patience = time.Minute

// attempts waits between attempts, for longer each time, until patience has run out.
type attempts struct {
	delay time.Duration
	until time.Time
}

func newAttempts() *attempts {
	return &attempts{delay: 100 * time.Millisecond, until: time.Now().Add(patience)}
}

// wait waits before the next attempt. It returns the error once patience has run out.
func (a *attempts) wait(ctx context.Context, err error) error {
	if time.Now().After(a.until) {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(float64(a.delay) * (0.5 + rand.Float64()))):
	}
	if a.delay *= 2; a.delay > 2*time.Second {
		a.delay = 2 * time.Second
	}
	return nil
}

// isRetryable tells whether a request may be sent again as it is. Its outcome may be unknown; its id makes that safe.
func isRetryable(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted:
		return true
	}
	return false
}

// answered makes a unary call until it is answered, each attempt with a deadline of its own.
func answered(ctx context.Context, call func(context.Context) error) error {
	for pause := newAttempts(); ; {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := call(attempt)
		cancel()
		if err == nil || !isRetryable(status.Code(err)) {
			return err
		}
		log.Printf("again, after %s", explain(status.Convert(err)))
		if err := pause.wait(ctx, err); err != nil {
			return err
		}
	}
}

// explain returns an error's reason and the fields at fault: of a failed call, or of one result in a stream.
func explain(failure *status.Status) string {
	reason, problem := failure.Code().String(), failure.Message()
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
		case *errdetails.BadRequest:
			var problems []string
			for _, violation := range detail.FieldViolations {
				problems = append(problems, fmt.Sprintf("%s is at fault: %s", violation.Field, violation.Description))
			}
			problem = strings.Join(problems, ", ")
		}
	}
	return reason + ": " + problem
}
