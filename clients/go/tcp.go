package farsock

import (
	"context"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// closeWait is how long closing a connection waits for the agent's word that the kernel has everything. What has not been handed over by then
// goes on by itself, until the host is closed.
const closeWait = time.Second

// TCPConn is a TCP connection of a far host. It is to this package what net.TCPConn is to package net.
//
// Several goroutines may use it at once. A write is done when its bytes are on their way to the agent, and waits while the far peer takes no
// more.
type TCPConn struct {
	stream  *stream
	session string
	socket  *farsockpb.Socket
	local   net.Addr
	remote  net.Addr
	linger  bool
	abort   bool
}

func newTCPConn(stream *stream, session string, socket *farsockpb.Socket) *TCPConn {
	conn := &TCPConn{
		stream: stream, session: session, socket: socket,
		local: tcpAddr(socket.GetLocal()), remote: tcpAddr(socket.GetRemote()),
	}
	host := stream.host
	host.mu.Lock()
	host.closers[conn] = struct{}{}
	host.mu.Unlock()
	host.run(func() {
		<-stream.done
		host.mu.Lock()
		delete(host.closers, conn)
		host.mu.Unlock()
	})
	return conn
}

func (c *TCPConn) opError(operation string, err error) error {
	return opError(operation, "tcp", c.local, c.remote, err)
}

// Read reads bytes that have come. At the end of the peer's direction it is io.EOF.
func (c *TCPConn) Read(into []byte) (int, error) {
	size, err := c.stream.read(into)
	return size, c.opError("read", err)
}

// Write sends bytes.
func (c *TCPConn) Write(from []byte) (int, error) {
	size, err := c.stream.write(from)
	return size, c.opError("write", err)
}

// WriteTo writes all that comes to w, without a copy of it: io.WriterTo.
func (c *TCPConn) WriteTo(w io.Writer) (int64, error) {
	total := int64(0)
	for {
		piece, err := c.stream.readPiece()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, c.opError("writeto", err)
		}
		size, err := w.Write(piece)
		total += int64(size)
		if err != nil {
			return total, err
		}
	}
}

// Close closes the socket. What was written is handed over first, in the background if the peer does not take it within a second. As Linux
// has it, the peer gets a RST instead of a FIN when bytes had come that nobody read.
func (c *TCPConn) Close() error {
	c.stream.mu.Lock()
	abort := c.abort
	c.stream.mu.Unlock()
	if err := c.stream.close(abort); err != nil {
		return c.opError("close", err)
	}
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-c.stream.done:
	case <-late.C:
	}
	return nil
}

// Abort resets the connection: the peer gets a RST, and what was not sent is discarded. It is SetLinger(0) and Close.
func (c *TCPConn) Abort() error {
	c.stream.mu.Lock()
	c.abort = true
	c.stream.mu.Unlock()
	return c.Close()
}

// waitClosed waits for the end of a connection that was closed. Others are left to the end of the session.
func (c *TCPConn) waitClosed(ctx context.Context) {
	c.stream.mu.Lock()
	closing := c.stream.closing
	c.stream.mu.Unlock()
	if !closing {
		return
	}
	select {
	case <-c.stream.done:
	case <-ctx.Done():
	}
}

// CloseWrite sends a FIN after what was written. Reading goes on.
func (c *TCPConn) CloseWrite() error { return c.opError("close", c.stream.shutDown()) }

// CloseRead ends reading: shutdown(2) with SHUT_RD on the far host. The peer is not told.
func (c *TCPConn) CloseRead() error {
	s := c.stream
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return c.opError("close", errClosed)
	}
	s.deaf, s.in = true, nil
	s.readable.Broadcast()
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.host.ctx, answerTimeout)
	defer cancel()
	answer, err := s.host.API.Sockets.ShutdownSocket(ctx, &farsockpb.ShutdownSocketRequest{
		SessionId: c.session, SocketId: c.socket.GetSocketId(), SocketUid: &c.socket.SocketUid,
		How: farsockpb.ShutdownHow_SHUTDOWN_HOW_RECEIVE,
	})
	if err != nil {
		return c.opError("close", s.host.agentError(err))
	}
	return c.opError("close", reported(answer.GetReport()))
}

// LocalAddr is the address of the far host's end.
func (c *TCPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the address of the peer.
func (c *TCPConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *TCPConn) SetDeadline(at time.Time) error { return c.setDeadlines(at, true, true) }

// SetReadDeadline sets when reads that wait, and later ones, fail with os.ErrDeadlineExceeded. The zero time: never.
func (c *TCPConn) SetReadDeadline(at time.Time) error { return c.setDeadlines(at, true, false) }

// SetWriteDeadline sets when writes that wait, and later ones, fail with os.ErrDeadlineExceeded. The zero time: never. Some bytes may have
// been written.
func (c *TCPConn) SetWriteDeadline(at time.Time) error { return c.setDeadlines(at, false, true) }

func (c *TCPConn) setDeadlines(at time.Time, read, write bool) error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if c.stream.closing {
		return c.opError("set", errClosed)
	}
	if read {
		c.stream.readDeadline.set(at)
	}
	if write {
		c.stream.writeDeadline.set(at)
	}
	return nil
}

// SetLinger says what Close does with bytes that the peer has not acknowledged. Negative, the default: the far kernel goes on with them by
// itself. Zero: they are discarded and the connection is reset. More: after so many seconds they are.
func (c *TCPConn) SetLinger(seconds int) error {
	c.stream.mu.Lock()
	c.abort = seconds == 0
	before := c.linger
	c.linger = seconds > 0
	c.stream.mu.Unlock()
	switch {
	case seconds > 0:
		after := durationpb.New(time.Duration(seconds) * time.Second)
		return c.set(&farsockpb.SocketOption{Name: "SO_LINGER", Value: &farsockpb.SocketOption_Duration{Duration: after}})
	case before:
		return c.set(option("SO_LINGER", false))
	}
	return nil
}

// SetNoDelay says whether small writes go out at once, which is the default, or wait for each other (Nagle). TCP_NODELAY.
func (c *TCPConn) SetNoDelay(noDelay bool) error { return c.set(option("TCP_NODELAY", noDelay)) }

// SetKeepAlive says whether the far kernel probes a silent peer. SO_KEEPALIVE.
func (c *TCPConn) SetKeepAlive(keepAlive bool) error { return c.set(option("SO_KEEPALIVE", keepAlive)) }

// SetKeepAlivePeriod sets after how much silence, and how often, it does. TCP_KEEPIDLE, TCP_KEEPINTVL.
func (c *TCPConn) SetKeepAlivePeriod(period time.Duration) error {
	return c.set(optionTime("TCP_KEEPIDLE", period), optionTime("TCP_KEEPINTVL", period))
}

// SetReadBuffer sets the size of the far kernel's receive buffer. SO_RCVBUF.
func (c *TCPConn) SetReadBuffer(bytes int) error { return c.set(optionNumber("SO_RCVBUF", bytes)) }

// SetWriteBuffer sets the size of the far kernel's send buffer. SO_SNDBUF.
func (c *TCPConn) SetWriteBuffer(bytes int) error { return c.set(optionNumber("SO_SNDBUF", bytes)) }

// SocketID is the name of the socket on the agent, for Host.API.
func (c *TCPConn) SocketID() string { return c.socket.GetSocketId() }

func (c *TCPConn) set(options ...*farsockpb.SocketOption) error {
	if c.stream.isClosing() {
		return c.opError("set", errClosed)
	}
	return c.opError("set", c.stream.host.setOptions(c.session, c.socket, options))
}

func (s *stream) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}
