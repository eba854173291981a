package farsock

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// receiveBuffer is how many bytes of datagrams wait for a reader here; one that finds no room is lost, and counted. It is Linux's own default.
const receiveBuffer = 212992

// datagramOverhead is what a datagram takes of it beside its bytes.
const datagramOverhead = 256

// UDPConn is a UDP socket of a far host. It is to this package what net.UDPConn is to package net.
//
// Datagrams come as they arrive there and wait here for a reader. A write is done when the far kernel has taken the datagram, or has said why not.
type UDPConn struct {
	host    *Host
	feed    *feed
	session string
	name    string
	ctx     context.Context
	cancel  context.CancelFunc

	mu                          sync.Mutex
	readable, writable          sync.Cond
	readDeadline, writeDeadline deadline
	// socket is as it was when it was made; what came before that was known waits in early.
	socket        *farsockpb.Socket
	early         []*farsockpb.Event
	local, remote net.Addr
	in            []datagram
	size, limit   int
	dropped       uint64
	closed        bool
	end           error
}

// datagram is one, or an error that the kernel had.
type datagram struct {
	data []byte
	from netip.AddrPort
	err  *farsockpb.SocketError
}

// ListenPacket makes a UDP socket: see Host.ListenPacket.
func (c *ListenConfig) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	transport, family, err := splitNetwork(network)
	if err == nil && transport != "udp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		address, err = checkAddress(address)
	}
	var conn *UDPConn
	if err == nil {
		spec := &farsockpb.UdpSocketSpec{Bind: address, Family: family, Options: udpOptions(c.Options, bothFamilies(address, family))}
		conn, err = c.Host.makeUDP(ctx, c.SocketID, spec)
	}
	if err != nil {
		return nil, opError("listen", network, nil, remoteOf(network, address), refusedAddress(err, address))
	}
	return conn, nil
}

func (d *Dialer) dialUDP(ctx context.Context, local, remote string, family farsockpb.Family) (*UDPConn, error) {
	spec := &farsockpb.UdpSocketSpec{Bind: local, Connect: remote, Family: family, Options: udpOptions(d.Options, nil)}
	return d.Host.makeUDP(ctx, d.SocketID, spec)
}

// udpOptions are those that package net sets on each UDP socket, and more.
func udpOptions(options, more []*farsockpb.SocketOption) []*farsockpb.SocketOption {
	return append(append([]*farsockpb.SocketOption{option("SO_BROADCAST", true)}, more...), options...)
}

func (h *Host) makeUDP(ctx context.Context, name string, spec *farsockpb.UdpSocketSpec) (*UDPConn, error) {
	if name == "" {
		name = "udp-" + h.requestID()
	}
	request := &farsockpb.CreateSocketRequest{SocketId: name, Kind: &farsockpb.CreateSocketRequest_Udp{Udp: spec}}
	var conn *UDPConn
	_, created, err := h.create(ctx, request, func(session string) error {
		if conn != nil {
			conn.feed.remove(name, conn)
			conn.cancel()
		}
		made := &UDPConn{host: h, session: session, name: name, limit: receiveBuffer}
		made.ctx, made.cancel = context.WithCancel(h.ctx)
		made.readable.L, made.writable.L = &made.mu, &made.mu
		made.readDeadline.init(&made.readable)
		made.writeDeadline.init(&made.writable)
		feed, err := h.subscribe(ctx, session, name, made)
		if err != nil {
			return err
		}
		made.feed = feed
		conn = made
		return nil
	})
	if err != nil {
		if conn != nil {
			conn.cancel()
			conn.feed.remove(name, conn)
		}
		return nil, err
	}
	conn.begin(created.GetSocket())
	return conn, nil
}

// begin takes up what has come before it was known that this is the socket.
func (c *UDPConn) begin(socket *farsockpb.Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.socket, c.local, c.remote = socket, udpAddr(socket.GetLocal()), udpAddr(socket.GetRemote())
	for _, event := range c.early {
		c.take(event)
	}
	c.early = nil
}

func (c *UDPConn) event(event *farsockpb.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		c.early = append(c.early, event)
		return
	}
	c.take(event)
}

func (c *UDPConn) take(event *farsockpb.Event) {
	// Another socket may have had its name before.
	if event.GetSocketUid() != c.socket.GetSocketUid() || c.closed {
		return
	}
	switch got := event.GetBody().(type) {
	case *farsockpb.Event_DatagramReceived:
		data := got.DatagramReceived.GetPayload().GetData()
		c.put(datagram{data: data, from: addrPort(got.DatagramReceived.GetSource())})
	case *farsockpb.Event_Failed:
		// What a write has met is told by the write.
		if failed := got.Failed.GetError(); failed.GetOperation() == farsockpb.Operation_OPERATION_RECEIVE {
			c.put(datagram{err: failed})
		}
	case *farsockpb.Event_Closed:
		c.finish(c.host.socketClosed(got.Closed))
	}
}

func (c *UDPConn) put(next datagram) {
	size := len(next.data) + datagramOverhead
	if c.size+size > c.limit && len(c.in) > 0 {
		c.dropped++
		return
	}
	c.size += size
	c.in = append(c.in, next)
	c.readable.Broadcast()
}

func (c *UDPConn) gap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped++
}

func (c *UDPConn) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish(err)
}

func (c *UDPConn) finish(err error) {
	if c.end == nil {
		c.end = err
	}
	c.readable.Broadcast()
}

func (c *UDPConn) opError(operation string, to net.Addr, err error) error {
	return opError(operation, "udp", c.local, to, err)
}

// next waits for a datagram, and takes it.
func (c *UDPConn) next() (datagram, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return datagram{}, errClosed
		case c.readDeadline.expired:
			return datagram{}, os.ErrDeadlineExceeded
		case len(c.in) > 0:
			next := c.in[0]
			c.in[0] = datagram{}
			c.in = c.in[1:]
			c.size -= len(next.data) + datagramOverhead
			if next.err != nil {
				return datagram{}, farError(next.err, "recvfrom")
			}
			return next, nil
		case c.end != nil:
			return datagram{}, c.end
		}
		c.readable.Wait()
	}
}

// Read reads the next datagram. What of it does not fit is lost, as recv(2) has it.
func (c *UDPConn) Read(into []byte) (int, error) {
	next, err := c.next()
	return copy(into, next.data), c.opError("read", c.remote, err)
}

// ReadFrom is Read, with the sender's address.
func (c *UDPConn) ReadFrom(into []byte) (int, net.Addr, error) {
	size, from, err := c.ReadFromUDPAddrPort(into)
	if err != nil {
		return size, nil, err
	}
	return size, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromUDP is Read, with the sender's address.
func (c *UDPConn) ReadFromUDP(into []byte) (int, *net.UDPAddr, error) {
	size, from, err := c.ReadFromUDPAddrPort(into)
	if err != nil {
		return size, nil, err
	}
	return size, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromUDPAddrPort is Read, with the sender's address.
func (c *UDPConn) ReadFromUDPAddrPort(into []byte) (int, netip.AddrPort, error) {
	next, err := c.next()
	return copy(into, next.data), next.from, c.opError("read", c.remote, err)
}

// Write sends a datagram to the remote address.
func (c *UDPConn) Write(from []byte) (int, error) {
	if _, err := c.send([][]byte{from}, "", "write"); err != nil {
		return 0, c.opError("write", c.remote, err)
	}
	return len(from), nil
}

// WriteTo sends a datagram to an address.
func (c *UDPConn) WriteTo(from []byte, to net.Addr) (int, error) {
	at, is := to.(*net.UDPAddr)
	if !is {
		return 0, c.opError("write", to, syscall.EINVAL)
	}
	return c.WriteToUDP(from, at)
}

// WriteToUDP sends a datagram to an address.
func (c *UDPConn) WriteToUDP(from []byte, to *net.UDPAddr) (int, error) {
	if to == nil {
		return 0, c.opError("write", nil, errMissingAddress)
	}
	return c.WriteToUDPAddrPort(from, to.AddrPort())
}

// WriteToUDPAddrPort sends a datagram to an address.
func (c *UDPConn) WriteToUDPAddrPort(from []byte, to netip.AddrPort) (int, error) {
	if _, err := c.WriteBatch([][]byte{from}, to); err != nil {
		return 0, err
	}
	return len(from), nil
}

// WriteBatch sends several datagrams to an address by one call of the agent, and says how many the far kernel has taken. One that it does not
// take is the last that is tried. Package net has no such method: it saves a round trip for each datagram.
func (c *UDPConn) WriteBatch(datagrams [][]byte, to netip.AddrPort) (int, error) {
	target := net.UDPAddrFromAddrPort(to)
	if c.remote != nil {
		return 0, c.opError("write", target, net.ErrWriteToConnected)
	}
	sent, err := c.send(datagrams, boundAddress(to), "sendto")
	return sent, c.opError("write", target, err)
}

func (c *UDPConn) send(datagrams [][]byte, to, call string) (int, error) {
	c.mu.Lock()
	closed, expired, reached := c.closed, c.writeDeadline.expired, c.writeDeadline.reached
	c.mu.Unlock()
	if closed {
		return 0, errClosed
	}
	if expired {
		return 0, os.ErrDeadlineExceeded
	}
	request := &farsockpb.SendDatagramsRequest{SessionId: c.session, SocketId: c.name, SocketUid: &c.socket.SocketUid}
	request.Call = &farsockpb.Call{Timeout: timeoutOf(c.ctx)}
	for _, data := range datagrams {
		datagram := &farsockpb.Datagram{Destination: to}
		if len(data) > 0 {
			datagram.Payload = &farsockpb.Payload{Content: &farsockpb.Payload_Data{Data: data}}
		}
		request.Datagrams = append(request.Datagrams, datagram)
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	late := make(chan struct{})
	go func() {
		select {
		case <-reached:
			close(late)
			cancel()
		case <-ctx.Done():
		}
	}()
	answer, err := c.host.API.Sockets.SendDatagrams(ctx, request)
	select {
	case <-late:
		if err != nil {
			return 0, os.ErrDeadlineExceeded
		}
	default:
	}
	switch {
	case err != nil && c.ctx.Err() != nil:
		return 0, errClosed
	case err != nil:
		return 0, c.host.agentError(err)
	case answer.GetReport().GetError() != nil:
		err = farError(answer.GetReport().GetError(), call)
	case answer.GetReport().GetTimedOut():
		err = os.ErrDeadlineExceeded
	}
	return int(answer.GetDatagramsSent()), err
}

// Close closes the socket.
func (c *UDPConn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", c.remote, errClosed)
	}
	c.closed = true
	c.in = nil
	c.readDeadline.set(time.Time{})
	c.writeDeadline.set(time.Time{})
	c.readable.Broadcast()
	c.mu.Unlock()
	c.cancel()
	err := c.host.closeSocket(c.session, c.socket)
	c.feed.remove(c.name, c)
	return c.opError("close", c.remote, err)
}

// LocalAddr is the address of the far host's end.
func (c *UDPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the remote address of a socket that was dialled, else nil.
func (c *UDPConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *UDPConn) SetDeadline(at time.Time) error { return c.setDeadlines(at, true, true) }

// SetReadDeadline sets when reads that wait, and later ones, fail with os.ErrDeadlineExceeded. The zero time: never.
func (c *UDPConn) SetReadDeadline(at time.Time) error { return c.setDeadlines(at, true, false) }

// SetWriteDeadline sets when writes that wait, and later ones, fail with os.ErrDeadlineExceeded. The zero time: never.
func (c *UDPConn) SetWriteDeadline(at time.Time) error { return c.setDeadlines(at, false, true) }

func (c *UDPConn) setDeadlines(at time.Time, read, write bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", c.remote, errClosed)
	}
	if read {
		c.readDeadline.set(at)
	}
	if write {
		c.writeDeadline.set(at)
	}
	return nil
}

// SetReadBuffer sets the size of the far kernel's receive buffer, SO_RCVBUF, and how many bytes may wait here for a reader.
func (c *UDPConn) SetReadBuffer(bytes int) error {
	c.mu.Lock()
	c.limit = bytes
	c.mu.Unlock()
	return c.set(optionNumber("SO_RCVBUF", bytes))
}

// SetWriteBuffer sets the size of the far kernel's send buffer. SO_SNDBUF.
func (c *UDPConn) SetWriteBuffer(bytes int) error { return c.set(optionNumber("SO_SNDBUF", bytes)) }

// Dropped is how many datagrams have come and were lost because nobody read those before them. Gaps of the agent's log count as one. What the
// far kernel has dropped is told by the agent: GetSocket.
func (c *UDPConn) Dropped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// SocketID is the name of the socket on the agent, for Host.API.
func (c *UDPConn) SocketID() string { return c.name }

func (c *UDPConn) set(options ...*farsockpb.SocketOption) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return c.opError("set", c.remote, errClosed)
	}
	return c.opError("set", c.remote, c.host.setOptions(c.session, c.socket, options))
}
