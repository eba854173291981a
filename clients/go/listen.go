package farsock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

const (
	// acceptTimeout is how long one AcceptSocket waits.
	acceptTimeout = time.Hour
	// lostPatience is how long an agent that was lost is tried again, before its sockets are given up.
	lostPatience = 30 * time.Second
	// lostPause is the time between two tries.
	lostPause = 200 * time.Millisecond
)

// ListenConfig has the options of a listener or of a packet socket, as net.ListenConfig has them.
type ListenConfig struct {
	// Host is where to listen.
	Host *Host
	// KeepAlive is as in Dialer, for accepted connections.
	KeepAlive time.Duration
	// Backlog is how many connections may wait to be accepted, 1 to 65535. Zero: 511.
	Backlog int
	// Options are more options of the socket, set before it is bound. Accepted connections have most of them, too.
	Options []*farsockpb.SocketOption
	// SocketID is the socket's name on the agent; connections that it accepts are SocketID.1, SocketID.2, … Empty: the agent mints one.
	SocketID string
}

// Listen listens on the host. Networks are "tcp", "tcp4" and "tcp6". It fits http.Serve. The listener is a *TCPListener.
//
// Without a host in the address, the agent's lab address is meant, and not every address as in package net: "0.0.0.0:80" and "[::]:80" mean
// those.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	return (&ListenConfig{Host: h}).Listen(context.Background(), network, address)
}

// ListenPacket receives on the host. Networks are "udp", "udp4" and "udp6". Addresses are as in Listen. The connection is a *UDPConn.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	return (&ListenConfig{Host: h}).ListenPacket(context.Background(), network, address)
}

// Listen listens: see Host.Listen.
func (c *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	transport, family, err := splitNetwork(network)
	if err == nil && transport != "tcp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		address, err = checkAddress(address)
	}
	var listener *TCPListener
	if err == nil {
		listener, err = c.listen(ctx, address, family)
	}
	if err != nil {
		return nil, opError("listen", network, nil, remoteOf(network, address), err)
	}
	return listener, nil
}

func (c *ListenConfig) listen(ctx context.Context, address string, family farsockpb.Family) (listener *TCPListener, err error) {
	spec := &farsockpb.TcpSocketSpec{
		Role: &farsockpb.TcpSocketSpec_Listen{Listen: address}, Family: family,
		Accept:   farsockpb.AcceptPolicy_ACCEPT_POLICY_MANUAL,
		Delivery: &farsockpb.Delivery{Mode: farsockpb.DeliveryMode_DELIVERY_MODE_TRANSFER},
		Options:  append(append(tcpOptions(c.KeepAlive), bothFamilies(address, family)...), c.Options...),
	}
	if c.Backlog > 0 {
		backlog := uint32(c.Backlog)
		spec.Backlog = &backlog
	}
	request := &farsockpb.CreateSocketRequest{SocketId: c.SocketID, Kind: &farsockpb.CreateSocketRequest_Tcp{Tcp: spec}}
	session, created, err := c.Host.create(ctx, request, func(string) error { return nil })
	if err != nil {
		return nil, refusedAddress(err, address)
	}
	listener = &TCPListener{host: c.Host, session: session, socket: created.GetSocket(), addr: tcpAddr(created.GetSocket().GetLocal())}
	listener.ctx, listener.cancel = context.WithCancel(c.Host.ctx)
	listener.changed.L = &listener.mu
	listener.deadline.init(&listener.changed)
	return listener, nil
}

// bothFamilies lets the IPv6 wildcard address mean both families, as it does in package net.
func bothFamilies(address string, family farsockpb.Family) []*farsockpb.SocketOption {
	at, err := netip.ParseAddrPort(address)
	if err != nil || at.Addr() != netip.IPv6Unspecified() || family != farsockpb.Family_FAMILY_UNSPECIFIED {
		return nil
	}
	return []*farsockpb.SocketOption{option("IPV6_V6ONLY", false)}
}

// create makes a socket in the host's session, after what is to be done before. What could not come as far as it should is closed again.
func (h *Host) create(
	ctx context.Context, request *farsockpb.CreateSocketRequest, before func(session string) error,
) (string, *farsockpb.CreateSocketResponse, error) {
	var created *farsockpb.CreateSocketResponse
	err := h.inSession(ctx, func(session *session) (err error) {
		if err := before(session.id); err != nil {
			return err
		}
		request.SessionId = session.id
		request.Call = &farsockpb.Call{RequestId: h.requestID(), Timeout: timeoutOf(ctx)}
		created, err = h.API.Sockets.CreateSocket(ctx, request)
		if err != nil && ctx.Err() != nil {
			h.cancelCall(session, request.Call.RequestId)
			return ended(ctx)
		}
		if err != nil {
			return h.agentError(err)
		}
		if err = reported(created.GetReport()); err != nil && created.GetSocket() != nil {
			_ = h.closeSocket(session.id, created.GetSocket())
		}
		return err
	})
	return request.GetSessionId(), created, err
}

func (h *Host) closeSocket(session string, socket *farsockpb.Socket) error {
	ctx, cancel := context.WithTimeout(h.ctx, answerTimeout)
	defer cancel()
	_, err := h.API.Sockets.CloseSocket(ctx, &farsockpb.CloseSocketRequest{
		SessionId: session, SocketId: socket.GetSocketId(), SocketUid: &socket.SocketUid, AllowMissing: true,
	})
	// An agent that was restarted has closed it, too.
	if err = h.agentError(err); sessionGone(err) {
		return nil
	}
	return err
}

// TCPListener is a listening socket of a far host. Connections wait in the queue of the far kernel until somebody accepts them.
type TCPListener struct {
	host    *Host
	session string
	socket  *farsockpb.Socket
	addr    net.Addr
	ctx     context.Context
	cancel  context.CancelFunc

	mu       sync.Mutex
	changed  sync.Cond
	deadline deadline
	closed   bool
	// waiting is how many accept now, asking how many of the agent's answers are under way: what was asked for stays, whoever stops waiting
	// for it, so that no connection is lost.
	waiting, asking int
	ready           []accepted
}

type accepted struct {
	conn *TCPConn
	err  error
}

// Accept waits for the next connection, a *TCPConn.
func (l *TCPListener) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// AcceptTCP is Accept.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) {
	conn, err := l.accept()
	return conn, opError("accept", "tcp", nil, l.addr, err)
}

func (l *TCPListener) accept() (*TCPConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting++
	defer func() { l.waiting-- }()
	for {
		switch {
		case l.closed:
			return nil, errClosed
		case l.deadline.expired:
			return nil, os.ErrDeadlineExceeded
		case len(l.ready) > 0:
			next := l.ready[0]
			l.ready = l.ready[1:]
			return next.conn, next.err
		}
		if l.asking < l.waiting {
			l.asking++
			if !l.host.run(l.ask) {
				l.asking--
				return nil, errClosed
			}
		}
		l.changed.Wait()
	}
}

// ask has the agent accept one connection.
func (l *TCPListener) ask() {
	conn, err := l.fetch()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking--
	if l.closed {
		if conn != nil {
			// As Linux does with those that wait at a listener that is closed.
			_ = conn.stream.close(true)
		}
		return
	}
	l.ready = append(l.ready, accepted{conn, err})
	l.changed.Broadcast()
}

func (l *TCPListener) fetch() (*TCPConn, error) {
	for {
		answer, err := l.askAgent()
		if err != nil {
			return nil, err
		}
		if answer.GetReport().GetTimedOut() {
			continue
		}
		if err := reported(answer.GetReport()); err != nil {
			return nil, err
		}
		child := answer.GetSocket()
		open := &farsockpb.TransferOpen{SessionId: l.session, SocketId: child.GetSocketId(), SocketUid: &child.SocketUid, Own: true}
		first := &farsockpb.TransferSocketRequest{Frame: &farsockpb.TransferSocketRequest_Open{Open: open}}
		stream, err := l.host.startStream(l.host.ctx, first)
		if err != nil {
			return nil, err
		}
		return newTCPConn(stream, l.session, child), nil
	}
}

// askAgent has one answer to one AcceptSocket, also across a connection to the agent that was lost: the name of the operation stays, so that
// no connection is accepted twice.
func (l *TCPListener) askAgent() (*farsockpb.AcceptSocketResponse, error) {
	call := &farsockpb.Call{RequestId: l.host.requestID(), Timeout: durationpb.New(acceptTimeout)}
	request := &farsockpb.AcceptSocketRequest{
		SessionId: l.session, SocketId: l.socket.GetSocketId(), SocketUid: &l.socket.SocketUid, Call: call,
	}
	lostAt := time.Time{}
	for {
		answer, err := l.host.API.Sockets.AcceptSocket(l.ctx, request)
		if err == nil {
			return answer, nil
		}
		err = l.host.agentError(err)
		var refused *AgentError
		if !errors.As(err, &refused) || !refused.lost() {
			return nil, err
		}
		if lostAt.IsZero() {
			lostAt = time.Now()
		}
		if time.Since(lostAt) > lostPatience {
			return nil, err
		}
		select {
		case <-l.ctx.Done():
			return nil, errClosed
		case <-time.After(lostPause):
		}
	}
}

// Close closes the socket: its port is free when it answers. Connections that were accepted go on.
func (l *TCPListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return opError("close", "tcp", nil, l.addr, errClosed)
	}
	l.closed = true
	for _, left := range l.ready {
		if left.conn != nil {
			_ = left.conn.stream.close(true)
		}
	}
	l.ready = nil
	l.changed.Broadcast()
	l.mu.Unlock()
	err := l.host.closeSocket(l.session, l.socket)
	l.cancel()
	return opError("close", "tcp", nil, l.addr, err)
}

// Addr is where it listens.
func (l *TCPListener) Addr() net.Addr { return l.addr }

// SetDeadline sets when accepting fails with os.ErrDeadlineExceeded. The zero time: never.
func (l *TCPListener) SetDeadline(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return opError("set", "tcp", nil, l.addr, errClosed)
	}
	l.deadline.set(at)
	return nil
}

// SocketID is the name of the socket on the agent, for Host.API.
func (l *TCPListener) SocketID() string { return l.socket.GetSocketId() }
