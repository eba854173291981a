package farsock

import (
	"encoding/binary"
	"io"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// dataField is the number of `data` in both messages of TransferSocket.
const dataField = 3

// transferCodec is that of protobuf, except that the bytes of a data frame are copied once when they come, and not at all when they go.
type transferCodec struct{ encoding.CodecV2 }

var frameCodec = transferCodec{encoding.GetCodecV2("proto")}

// dataFrame is a data frame that goes. Its buffer is given back once it has been sent.
type dataFrame []byte

// Marshal encodes a message, or a dataFrame.
func (c transferCodec) Marshal(message any) (mem.BufferSlice, error) {
	data, is := message.(dataFrame)
	if !is {
		return c.CodecV2.Marshal(message)
	}
	head := protowire.AppendTag(nil, dataField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(data)))
	bytes := []byte(data)
	return mem.BufferSlice{mem.SliceBuffer(head), mem.NewBuffer(&bytes, bufferPool{})}, nil
}

// Unmarshal decodes a message.
func (c transferCodec) Unmarshal(from mem.BufferSlice, message any) error {
	if answer, is := message.(*farsockpb.TransferSocketResponse); is {
		if data := readData(from); data != nil {
			answer.Frame = &farsockpb.TransferSocketResponse_Data{Data: data}
			return nil
		}
	}
	return c.CodecV2.Unmarshal(from, message)
}

// readData is the bytes of a frame that is nothing but data, or nil.
func readData(from mem.BufferSlice) []byte {
	reader := from.Reader()
	defer reader.Close()
	tag, err := binary.ReadUvarint(reader)
	if err != nil || tag != protowire.EncodeTag(dataField, protowire.BytesType) {
		return nil
	}
	size, err := binary.ReadUvarint(reader)
	if err != nil || size == 0 || size != uint64(reader.Remaining()) {
		return nil
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(reader, data); err != nil {
		return nil
	}
	return data
}

// bufferPool has the buffers that writes wait in, so that an idle stream needs none.
type bufferPool struct{}

// Get answers a buffer of at least so many bytes.
func (bufferPool) Get(size int) *[]byte {
	buffer := buffers.Get().(*[]byte)
	if cap(*buffer) < size {
		*buffer = make([]byte, size)
	}
	*buffer = (*buffer)[:size]
	return buffer
}

// Put takes one back.
func (bufferPool) Put(buffer *[]byte) {
	*buffer = (*buffer)[:0]
	buffers.Put(buffer)
}
