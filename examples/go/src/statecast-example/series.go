package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "statecast-example/statecast/v1"
)

// series is one session and the values to send to it. One request is in flight at a time, so that their order holds.
type series struct {
	id       string
	values   []float64
	sent     int
	lastSeen *pb.Version
	request  *pb.ForecastRequest // the one in flight; it is repeated as it is
	attempts *attempts           // of that request
}

// next makes the next request; nil after the last value.
func (s *series) next() (*pb.ForecastRequest, error) {
	s.request, s.attempts = nil, newAttempts()
	if s.sent == len(s.values) {
		return nil, nil
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	s.request = &pb.ForecastRequest{
		SessionId:      s.id,
		Observations:   &pb.Observations{Values: []float64{s.values[s.sent]}},
		Horizon:        1,
		QuantileLevels: []float64{0.1, 0.5, 0.9},
		RequestId:      hex.EncodeToString(id),
		LastSeen:       s.lastSeen,
		Timeout:        &durationpb.Duration{Seconds: 10}, // a stream has no deadline
	}
	if s.sent == 0 { // later, a session that is gone is an error, not a new one
		s.request.Open = &pb.OpenOptions{}
		s.request.LastSeen = &pb.Version{}
	}
	s.sent++
	return s.request, nil
}

// take notes the answer to the request in flight.
func (s *series) take(answer *pb.ForecastResponse) error {
	values := answer.GetForecast().GetValues()
	if answer.Version == nil || len(values) != 3 {
		return errors.New("an answer lacks what was asked for")
	}
	s.lastSeen = answer.Version
	if answer.Version.Step%10 == 0 {
		fmt.Printf("%s step %d: next %.1f (%.1f to %.1f)\n", s.id, answer.Version.Step, values[1], values[0], values[2])
	}
	return nil
}
