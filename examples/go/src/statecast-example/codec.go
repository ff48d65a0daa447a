package main

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// codec encodes messages. gRPC before 1.34, as Debian 12 has it, knows only those of protobuf's former API. Newer
// releases need no codec.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message interface{}) ([]byte, error) {
	if found, ok := message.(proto.Message); ok {
		return proto.Marshal(found)
	}
	return nil, fmt.Errorf("%T is no message", message)
}

func (codec) Unmarshal(data []byte, message interface{}) error {
	if found, ok := message.(proto.Message); ok {
		return proto.Unmarshal(data, found)
	}
	return fmt.Errorf("%T is no message", message)
}
