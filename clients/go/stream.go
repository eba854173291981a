package farsock

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/farsock/farsock/clients/go/farsockpb"
	"github.com/farsock/farsock/clients/go/internal/transfer"
)

const (
	// sendBuffer is how many bytes of writes wait here to be sent.
	sendBuffer = transfer.DataSize
	// farCloseTimeout is how long the agent tries to hand the rest of what was written to the kernel after a close.
	farCloseTimeout = time.Minute
)

type transferStream = grpc.BidiStreamingClient[farsockpb.TransferSocketRequest, farsockpb.TransferSocketResponse]

// stream is one end of a TransferSocket: bytes both ways, and what becomes of them. A goroutine of its own sends, another receives; everybody
// else waits for them by conditions, so that a deadline or a close ends any waiting.
//
// Invariant: no more is in out than the agent has granted and sendBuffer holds, and no more comes than was granted and not read.
type stream struct {
	host   *Host
	frames transferStream
	cancel context.CancelFunc

	// writing is held by a writer, so that the bytes of one write stay together.
	writing sync.Mutex

	mu sync.Mutex
	// readable, writable and sendable tell readers, writers and the goroutine that sends that something has changed.
	readable, writable, sendable sync.Cond
	readDeadline, writeDeadline  deadline
	machine                      *transfer.Transfer

	// in has the bytes that nobody has read, in pieces of at least one; taken were read and have not been granted again yet.
	in    [][]byte
	taken uint64
	// grant is what the agent is to be granted next, out what it is to be sent.
	grant uint64
	out   []byte

	// ending, closing and aborting are what was asked for; endSent is that the end went out.
	ending, closing, aborting bool
	endSent                   bool
	// deaf is that nothing will be read any more.
	deaf bool

	// report is how the socket was made, once it is known.
	opened chan struct{}
	first  *farsockpb.TransferOpened
	// failure is what the kernel has against more bytes. As SO_ERROR, it is told once; then there is EOF and EPIPE.
	failure error
	told    bool
	end     *farsockpb.SocketClosed
	// broken is why the stream itself is over, where it is not in good order.
	broken error
	// done is closed when nothing more comes.
	done chan struct{}
}

// startStream opens a stream. It belongs to the host from then on, not to ctx, which bounds only this call.
func (h *Host) startStream(ctx context.Context, first *farsockpb.TransferSocketRequest) (*stream, error) {
	lane, err := h.pool.reserve()
	if err != nil {
		return nil, err
	}
	own, cancel := context.WithCancel(h.ctx)
	stop := context.AfterFunc(ctx, cancel)
	frames, err := farsockpb.NewSocketServiceClient(lane.conn).TransferSocket(own, grpc.ForceCodecV2(frameCodec))
	if err == nil {
		err = frames.Send(first)
	}
	s := &stream{
		host: h, frames: frames, cancel: cancel, machine: transfer.New(transfer.Client),
		opened: make(chan struct{}), done: make(chan struct{}), grant: readCredit,
	}
	for _, cond := range []*sync.Cond{&s.readable, &s.writable, &s.sendable} {
		cond.L = &s.mu
	}
	s.readDeadline.init(&s.readable)
	s.writeDeadline.init(&s.writable)
	// The first frame cannot be a mistake.
	_ = s.machine.Send(transfer.Frame{Kind: transfer.Open})
	receive := func() {
		s.receive()
		h.pool.release(lane)
	}
	if errors.Is(err, io.EOF) {
		// What the agent had against it is what there is to receive.
		err = nil
	}
	if !stop() && err == nil {
		err = ended(ctx)
	}
	if err != nil || !h.run(receive) {
		cancel()
		h.pool.release(lane)
		if ctx.Err() != nil {
			return nil, ended(ctx)
		}
		if err == nil {
			return nil, h.errClosed()
		}
		return nil, h.agentError(err)
	}
	// The host waits for both.
	h.run(s.send)
	return s, nil
}

// waitOpened waits until the agent has said what has become of the connection.
func (s *stream) waitOpened(ctx context.Context) (*farsockpb.TransferOpened, error) {
	select {
	case <-s.opened:
	case <-s.done:
	case <-ctx.Done():
		s.cancel()
		return nil, ended(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first != nil {
		return s.first, nil
	}
	return nil, s.broken
}

// === What comes ===

func (s *stream) receive() {
	for {
		answer, err := s.frames.Recv()
		s.mu.Lock()
		if err == nil {
			err = s.take(answer)
		} else if err != io.EOF {
			err = s.host.agentError(err)
		}
		if err != nil {
			s.over(err)
			s.mu.Unlock()
			s.cancel()
			return
		}
		s.mu.Unlock()
	}
}

// over tells everybody that nothing more comes.
func (s *stream) over(err error) {
	if s.broken == nil && !s.machine.IsClosed() {
		if err == io.EOF {
			err = s.host.broken(codes.Aborted, reasonSocketClosed, "the agent has ended the stream of this socket")
		}
		s.broken = err
	}
	s.out = nil
	close(s.done)
	s.wakeAll()
}

func (s *stream) wakeAll() {
	s.readable.Broadcast()
	s.writable.Broadcast()
	s.sendable.Broadcast()
}

// take does what a frame says.
func (s *stream) take(answer *farsockpb.TransferSocketResponse) error {
	frame := frameOf(answer)
	verdict, err := s.machine.Receive(frame)
	if err != nil {
		return s.host.broken(codes.Internal, "", "the agent has sent "+err.Error())
	}
	if verdict == transfer.Drop {
		return nil
	}
	switch got := answer.GetFrame().(type) {
	case *farsockpb.TransferSocketResponse_Opened:
		s.first = got.Opened
		close(s.opened)
		s.writable.Broadcast()
	case *farsockpb.TransferSocketResponse_Data:
		if s.deaf || s.closing {
			return nil
		}
		s.in = append(s.in, got.Data)
		s.readable.Broadcast()
	case *farsockpb.TransferSocketResponse_Window:
		s.writable.Broadcast()
	case *farsockpb.TransferSocketResponse_End:
		s.grant = 0
		s.readable.Broadcast()
	case *farsockpb.TransferSocketResponse_Error:
		s.failure = farError(got.Error, "")
		s.out = nil
		s.writable.Broadcast()
	case *farsockpb.TransferSocketResponse_Closed:
		s.end, s.out, s.grant = got.Closed, nil, 0
		s.wakeAll()
	}
	return nil
}

func frameOf(answer *farsockpb.TransferSocketResponse) transfer.Frame {
	switch got := answer.GetFrame().(type) {
	case *farsockpb.TransferSocketResponse_Opened:
		return transfer.Frame{Kind: transfer.Opened, Size: got.Opened.GetWindow()}
	case *farsockpb.TransferSocketResponse_Data:
		return transfer.Frame{Kind: transfer.Data, Size: uint64(len(got.Data))}
	case *farsockpb.TransferSocketResponse_Window:
		return transfer.Frame{Kind: transfer.Window, Size: got.Window}
	case *farsockpb.TransferSocketResponse_End:
		return transfer.Frame{Kind: transfer.End}
	case *farsockpb.TransferSocketResponse_Error:
		return transfer.Frame{Kind: transfer.Error}
	case *farsockpb.TransferSocketResponse_Closed:
		return transfer.Frame{Kind: transfer.Closed}
	}
	// None that this version knows: what only the other end sends is a mistake.
	return transfer.Frame{Kind: transfer.Open}
}

// === What goes ===

func (s *stream) send() {
	for {
		s.mu.Lock()
		request, frame := s.next()
		for request == nil && !s.isMute() {
			s.sendable.Wait()
			request, frame = s.next()
		}
		s.mu.Unlock()
		if request == nil {
			break
		}
		var message any = request
		if data, is := request.GetFrame().(*farsockpb.TransferSocketRequest_Data); is {
			message = dataFrame(data.Data)
		}
		// What is wrong is what there is to receive.
		if s.frames.SendMsg(message) != nil {
			break
		}
		if frame.Kind == transfer.Abort {
			break
		}
	}
	_ = s.frames.CloseSend()
}

// isMute is whether nothing more can be sent.
func (s *stream) isMute() bool {
	return s.machine.IsAborted() || s.machine.IsClosed() || s.isDone()
}

func (s *stream) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// next is what goes out next: an abort before all, and a grant before bytes, because somebody waits for it.
func (s *stream) next() (*farsockpb.TransferSocketRequest, transfer.Frame) {
	if s.isMute() {
		return nil, transfer.Frame{}
	}
	request, frame := new(farsockpb.TransferSocketRequest), transfer.Frame{}
	switch {
	case s.aborting:
		frame.Kind = transfer.Abort
		request.Frame = &farsockpb.TransferSocketRequest_Abort{Abort: &farsockpb.TransferAbort{}}
	case s.grant > 0 && !s.closing:
		frame = transfer.Frame{Kind: transfer.Window, Size: s.grant}
		request.Frame = &farsockpb.TransferSocketRequest_Window{Window: s.grant}
		s.grant = 0
	case len(s.out) > 0:
		frame = transfer.Frame{Kind: transfer.Data, Size: uint64(len(s.out))}
		request.Frame = &farsockpb.TransferSocketRequest_Data{Data: s.out}
		s.out = nil
		s.writable.Broadcast()
	case s.ending && !s.endSent:
		frame.Kind, s.endSent = transfer.End, true
		request.Frame = &farsockpb.TransferSocketRequest_End{End: &farsockpb.TransferEnd{}}
	case s.closing:
		frame.Kind = transfer.Abort
		last := &farsockpb.TransferClose{Timeout: durationpb.New(farCloseTimeout)}
		request.Frame = &farsockpb.TransferSocketRequest_Close{Close: last}
	default:
		return nil, frame
	}
	if err := s.machine.Send(frame); err != nil {
		// Never: what would be one was not put in.
		s.broken = s.host.broken(codes.Internal, "", "this client would have sent "+err.Error())
		s.cancel()
		return nil, frame
	}
	return request, frame
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// === What is asked for ===

// read waits for bytes, and takes them. At least one, or an error.
func (s *stream) read(into []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitReadable(); err != nil || len(into) == 0 {
		return 0, err
	}
	size := 0
	for len(s.in) > 0 && size < len(into) {
		copied := copy(into[size:], s.in[0])
		size += copied
		if copied == len(s.in[0]) {
			s.in = s.in[1:]
		} else {
			s.in[0] = s.in[0][copied:]
		}
	}
	s.took(size)
	return size, nil
}

// readPiece is read without a copy.
func (s *stream) readPiece() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitReadable(); err != nil {
		return nil, err
	}
	piece := s.in[0]
	s.in = s.in[1:]
	s.took(len(piece))
	return piece, nil
}

// waitReadable waits until there are bytes.
func (s *stream) waitReadable() error {
	for {
		switch {
		case s.closing:
			return errClosed
		case s.readDeadline.expired:
			return os.ErrDeadlineExceeded
		case s.deaf:
			return io.EOF
		case len(s.in) > 0:
			return nil
		case s.machine.HasEnded(transfer.Agent):
			return io.EOF
		case s.isDone():
			return s.fate("read", io.EOF)
		}
		s.readable.Wait()
	}
}

// took grants again what was read, not at each byte.
func (s *stream) took(size int) {
	s.taken += uint64(size)
	if s.taken >= readCredit/4 && !s.machine.HasEnded(transfer.Agent) && !s.isMute() {
		s.grant += s.taken
		s.taken = 0
		s.sendable.Signal()
	}
}

// write waits until all bytes are on their way, or cannot be.
func (s *stream) write(from []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	for {
		room, err := s.waitWritable(len(from) > size)
		if err != nil || len(from) == size {
			return size, err
		}
		piece := from[size:min(size+room, len(from))]
		if s.out == nil {
			s.out = *buffers.Get().(*[]byte)
		}
		s.out = append(s.out, piece...)
		size += len(piece)
		s.sendable.Signal()
		if size == len(from) {
			return size, nil
		}
	}
}

// waitWritable waits until there is room for bytes, if there are any, and says for how many.
func (s *stream) waitWritable(wanted bool) (int, error) {
	for {
		switch {
		case s.closing:
			return 0, errClosed
		case s.writeDeadline.expired:
			return 0, os.ErrDeadlineExceeded
		case s.failure != nil || s.isDone():
			return 0, s.fate("write", os.NewSyscallError("write", syscall.EPIPE))
		case s.ending:
			return 0, os.NewSyscallError("write", syscall.EPIPE)
		case !wanted:
			return 0, nil
		}
		credit := s.machine.Credit(transfer.Client)
		if room := int(min(credit, sendBuffer)) - len(s.out); room > 0 {
			return room, nil
		}
		s.writable.Wait()
	}
}

// fate is why nothing more can be read or written: the kernel's error, once, and then what it answers afterwards.
func (s *stream) fate(call string, afterwards error) error {
	if s.failure != nil {
		if s.told {
			return afterwards
		}
		s.told = true
		var number syscall.Errno
		if errors.As(s.failure, &number) {
			return os.NewSyscallError(call, number)
		}
		return s.failure
	}
	if s.broken != nil {
		return s.broken
	}
	// Everything ended in good order: from here and from there.
	if reason := s.end.GetReason(); reason == farsockpb.CloseReason_CLOSE_REASON_CLOSED && s.machine.HasEnded(transfer.Agent) {
		return afterwards
	}
	return s.host.socketClosed(s.end)
}

// shutDown sends a FIN after what was written.
func (s *stream) shutDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return errClosed
	case s.isDone():
		return os.NewSyscallError("shutdown", syscall.ENOTCONN)
	}
	s.ending = true
	s.sendable.Signal()
	s.writable.Broadcast()
	return nil
}

// close closes the socket, or resets the connection. It does not wait.
func (s *stream) close(abort bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errClosed
	}
	s.closing, s.aborting = true, abort
	if abort {
		s.out = nil
	}
	s.in = nil
	s.readDeadline.set(time.Time{})
	s.writeDeadline.set(time.Time{})
	s.wakeAll()
	return nil
}
