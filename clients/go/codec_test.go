package farsock

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// What goes is what protobuf would have sent, and what comes is what it would have read, however it is cut.
func TestFramesAreThoseOfProtobuf(t *testing.T) {
	for _, size := range []int{1, 127, 128, 5000, 256 << 10} {
		data := bytes.Repeat([]byte("x"), size)
		went, err := frameCodec.Marshal(dataFrame(bytes.Clone(data)))
		if err != nil {
			t.Fatal(err)
		}
		var read farsockpb.TransferSocketRequest
		if err := proto.Unmarshal(went.Materialize(), &read); err != nil || !bytes.Equal(read.GetData(), data) {
			t.Errorf("%d bytes: %d went, %v", size, len(read.GetData()), err)
		}

		answer := &farsockpb.TransferSocketResponse{Frame: &farsockpb.TransferSocketResponse_Data{Data: data}}
		sent, err := proto.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		for _, cut := range []int{0, 1, 2, 3, len(sent) / 2, len(sent) - 1} {
			var got farsockpb.TransferSocketResponse
			pieces := mem.BufferSlice{mem.SliceBuffer(sent[:cut]), mem.SliceBuffer(sent[cut:])}
			if err := frameCodec.Unmarshal(pieces, &got); err != nil || !proto.Equal(&got, answer) {
				t.Errorf("%d bytes, cut at %d: %v", size, cut, err)
			}
		}
	}
	for _, answer := range []*farsockpb.TransferSocketResponse{
		{}, {Frame: &farsockpb.TransferSocketResponse_Window{Window: 7}}, {Frame: &farsockpb.TransferSocketResponse_End{End: &farsockpb.TransferEnd{}}},
	} {
		sent, err := proto.Marshal(answer)
		var got farsockpb.TransferSocketResponse
		if err != nil || frameCodec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(sent)}, &got) != nil || !proto.Equal(&got, answer) {
			t.Errorf("%v became %v", answer, &got)
		}
	}
}
