package farsock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// patientTimeout bounds a connect without a deadline: longer than the kernel tries by itself, so that its ETIMEDOUT is what is told.
const patientTimeout = 10 * time.Minute

// Dialer has the options of a dial, as net.Dialer has them.
type Dialer struct {
	// Host is where to dial from.
	Host *Host
	// Timeout is how long a dial may take. Zero: as long as the far kernel tries.
	Timeout time.Duration
	// Deadline is when it has to be done. Zero: never.
	Deadline time.Time
	// LocalAddr is the far local address, a *net.TCPAddr or *net.UDPAddr. Nil: the agent's lab address with any port.
	LocalAddr net.Addr
	// KeepAlive is after how much silence, and how often, the far kernel probes the peer. Zero: 15 s. Negative: it does not.
	KeepAlive time.Duration
	// Options are more options of the socket, set before it connects.
	Options []*farsockpb.SocketOption
	// SocketID is the socket's name on the agent. Empty: the agent mints one.
	SocketID string
}

// Dial connects from the host: see DialContext.
func (h *Host) Dial(network, address string) (net.Conn, error) {
	return h.DialContext(context.Background(), network, address)
}

// DialContext connects from the host to an address as the host sees it. Networks are "tcp", "tcp4", "tcp6", "udp", "udp4" and "udp6". It fits
// http.Transport.DialContext. The connection is a *TCPConn or a *UDPConn.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&Dialer{Host: h}).DialContext(ctx, network, address)
}

// Dial connects: see DialContext.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects. Once it is there, the end of ctx does not touch the connection any more.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	deadline := d.Deadline
	if d.Timeout > 0 {
		if at := time.Now().Add(d.Timeout); deadline.IsZero() || at.Before(deadline) {
			deadline = at
		}
	}
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	transport, family, err := splitNetwork(network)
	if err == nil {
		address, err = checkAddress(address)
	}
	local := ""
	if err == nil {
		local, err = checkLocal(network, d.LocalAddr)
	}
	if err == nil && ctx.Err() != nil {
		err = ended(ctx)
	}
	if err == nil && transport == "udp" {
		conn, err := d.dialUDP(ctx, local, address, family)
		if err == nil {
			return conn, nil
		}
		return nil, opError("dial", network, d.LocalAddr, remoteOf(network, address), refusedAddress(err, address))
	}
	var conn *TCPConn
	if err == nil {
		conn, err = d.dialTCP(ctx, local, address, family)
	}
	if err != nil {
		return nil, opError("dial", network, d.LocalAddr, remoteOf(network, address), refusedAddress(err, address))
	}
	return conn, nil
}

func (d *Dialer) dialTCP(ctx context.Context, local, remote string, family farsockpb.Family) (conn *TCPConn, err error) {
	err = d.Host.inSession(ctx, func(session *session) error {
		spec := &farsockpb.TcpSocketSpec{
			Bind: local, Role: &farsockpb.TcpSocketSpec_Connect{Connect: remote}, Family: family,
			Options: append(tcpOptions(d.KeepAlive), d.Options...),
		}
		call := &farsockpb.Call{RequestId: d.Host.requestID(), Timeout: timeoutOf(ctx)}
		create := &farsockpb.TransferCreate{SessionId: session.id, SocketId: d.SocketID, Tcp: spec, Call: call}
		first := &farsockpb.TransferSocketRequest{Frame: &farsockpb.TransferSocketRequest_Create{Create: create}}
		stream, err := d.Host.startStream(ctx, first)
		var opened *farsockpb.TransferOpened
		if err == nil {
			opened, err = stream.waitOpened(ctx)
		}
		if err != nil && ctx.Err() != nil {
			d.Host.cancelCall(session, call.RequestId)
			return ended(ctx)
		}
		if err != nil {
			return err
		}
		if err := reported(opened.GetReport()); err != nil {
			return err
		}
		conn = newTCPConn(stream, session.id, opened.GetSocket())
		return nil
	})
	return conn, err
}

// cancelCall stops an operation that nobody waits for any more.
func (h *Host) cancelCall(session *session, requestID string) {
	h.run(func() {
		ctx, cancel := context.WithTimeout(h.ctx, answerTimeout)
		defer cancel()
		// It may be over already, or the agent may be gone: it is not there then.
		_, _ = h.API.Sockets.CancelCall(ctx, &farsockpb.CancelCallRequest{SessionId: session.id, RequestId: requestID})
	})
}

// timeoutOf is how long an operation may take that ctx bounds.
func timeoutOf(ctx context.Context) *durationpb.Duration {
	left := patientTimeout
	if deadline, has := ctx.Deadline(); has {
		left = min(left, max(0, time.Until(deadline)))
	}
	return durationpb.New(left)
}

// === Networks and addresses ===

func splitNetwork(network string) (transport string, family farsockpb.Family, err error) {
	switch network {
	case "tcp", "udp":
		return network, farsockpb.Family_FAMILY_UNSPECIFIED, nil
	case "tcp4", "udp4":
		return network[:3], farsockpb.Family_FAMILY_IPV4, nil
	case "tcp6", "udp6":
		return network[:3], farsockpb.Family_FAMILY_IPV6, nil
	}
	return "", 0, net.UnknownNetworkError(network)
}

// checkAddress makes sure that an address is HOST:PORT, and an empty port is 0, as package net has it. The rest is for the agent to say.
func checkAddress(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if port == "" {
		port = "0"
	}
	return net.JoinHostPort(host, port), nil
}

func checkLocal(network string, local net.Addr) (string, error) {
	switch local := local.(type) {
	case nil:
		return "", nil
	case *net.TCPAddr:
		if strings.HasPrefix(network, "tcp") {
			return boundAddress(local.AddrPort()), nil
		}
	case *net.UDPAddr:
		if strings.HasPrefix(network, "udp") {
			return boundAddress(local.AddrPort()), nil
		}
	}
	return "", &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
}

// boundAddress is an address in the form of the API. Without an IP the agent's lab address is meant.
func boundAddress(at netip.AddrPort) string {
	if !at.Addr().IsValid() {
		return net.JoinHostPort("", formatUint(uint64(at.Port())))
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
}

// remoteOf is the address of an error: as an IP address where it is one.
func remoteOf(network, address string) net.Addr {
	at, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return nil
	case strings.HasPrefix(network, "udp"):
		return net.UDPAddrFromAddrPort(at)
	}
	return net.TCPAddrFromAddrPort(at)
}

// refusedAddress tells what the agent refuses of an address as package net does.
func refusedAddress(err error, address string) error {
	var refused *AgentError
	if errors.As(err, &refused) && refused.Code == codes.InvalidArgument && refused.Reason == "INVALID_FIELD" {
		return &net.AddrError{Err: refused.Message, Addr: address}
	}
	return err
}
