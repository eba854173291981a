package farsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// AgentError is what an agent has refused, or that it cannot be reached. What the far kernel or its network has answered is none: that is a
// syscall.Errno.
type AgentError struct {
	// Agent is its endpoint.
	Agent string
	// Code is gRPC's: codes.Unavailable when the agent cannot be reached, or was lost.
	Code codes.Code
	// Reason says it more exactly: SOCKET_NOT_FOUND, QUOTA_EXCEEDED, as the API has them. Empty when the agent has said nothing.
	Reason string
	// Message is for people.
	Message string

	status *status.Status
}

// The reasons that mean something here.
const (
	reasonSocketClosed    = "SOCKET_CLOSED"
	reasonSessionNotFound = "SESSION_NOT_FOUND"
	reasonLeaseExpired    = "LEASE_EXPIRED"
	reasonInstanceChanged = "INSTANCE_CHANGED"
	reasonFutureEvent     = "FUTURE_EVENT"
)

// Error tells it on one line.
func (e *AgentError) Error() string { return fmt.Sprintf("agent %s: %s", e.Agent, e.Message) }

// GRPCStatus is the status as it came, with its details; package status finds it.
func (e *AgentError) GRPCStatus() *status.Status { return e.status }

// Is makes a socket that somebody else has closed, such as the agent when it stops, one that is closed here.
func (e *AgentError) Is(target error) bool {
	return target == net.ErrClosed && e.Reason == reasonSocketClosed
}

// Timeout is whether time was up.
func (e *AgentError) Timeout() bool { return e.Code == codes.DeadlineExceeded }

// lost is whether the agent could not be reached, so that it may be worth trying again.
func (e *AgentError) lost() bool { return e.Code == codes.Unavailable && e.Reason == "" }

// sessionGone is whether the agent does not have the session any more: it was restarted, or the lease was not renewed in time.
func sessionGone(err error) bool {
	var refused *AgentError
	return errors.As(err, &refused) && (refused.Reason == reasonSessionNotFound || refused.Reason == reasonLeaseExpired)
}

// agentError makes an error of an RPC one of ours. Nil stays nil.
func (h *Host) agentError(err error) error {
	if err == nil {
		return nil
	}
	if h.ctx.Err() != nil {
		return h.errClosed()
	}
	told := status.Convert(err)
	made := &AgentError{Agent: h.endpoint.String(), Code: told.Code(), Message: told.Message(), status: told}
	for _, detail := range told.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			made.Reason = info.GetReason()
		}
	}
	return made
}

// broken is an error about the agent that no status tells.
func (h *Host) broken(code codes.Code, reason, message string) error {
	return &AgentError{Agent: h.endpoint.String(), Code: code, Reason: reason, Message: message, status: status.New(code, message)}
}

// socketClosed is the error of a socket that somebody else has closed.
func (h *Host) socketClosed(end *farsockpb.SocketClosed) error {
	reason := strings.TrimPrefix(end.GetReason().String(), "CLOSE_REASON_")
	return h.broken(codes.Aborted, reasonSocketClosed, "the far socket was closed: "+reason)
}

// === The kernel's errors ===

// errnos has the names that package syscall knows everywhere, with the numbers that they have on this system.
var errnos = map[string]syscall.Errno{
	"E2BIG": syscall.E2BIG, "EACCES": syscall.EACCES, "EADDRINUSE": syscall.EADDRINUSE, "EADDRNOTAVAIL": syscall.EADDRNOTAVAIL,
	"EAFNOSUPPORT": syscall.EAFNOSUPPORT, "EAGAIN": syscall.EAGAIN, "EALREADY": syscall.EALREADY, "EBADF": syscall.EBADF,
	"ECANCELED": syscall.ECANCELED, "ECONNABORTED": syscall.ECONNABORTED, "ECONNREFUSED": syscall.ECONNREFUSED,
	"ECONNRESET": syscall.ECONNRESET, "EDESTADDRREQ": syscall.EDESTADDRREQ, "EFAULT": syscall.EFAULT, "EHOSTDOWN": syscall.EHOSTDOWN,
	"EHOSTUNREACH": syscall.EHOSTUNREACH, "EINPROGRESS": syscall.EINPROGRESS, "EINTR": syscall.EINTR, "EINVAL": syscall.EINVAL,
	"EIO": syscall.EIO, "EISCONN": syscall.EISCONN, "EMFILE": syscall.EMFILE, "EMSGSIZE": syscall.EMSGSIZE, "ENETDOWN": syscall.ENETDOWN,
	"ENETRESET": syscall.ENETRESET, "ENETUNREACH": syscall.ENETUNREACH, "ENFILE": syscall.ENFILE, "ENOBUFS": syscall.ENOBUFS,
	"ENODEV": syscall.ENODEV, "ENOENT": syscall.ENOENT, "ENOMEM": syscall.ENOMEM, "ENOPROTOOPT": syscall.ENOPROTOOPT,
	"ENOTCONN": syscall.ENOTCONN, "ENOTSOCK": syscall.ENOTSOCK, "EOPNOTSUPP": syscall.EOPNOTSUPP, "EPERM": syscall.EPERM,
	"EPIPE": syscall.EPIPE, "EPROTO": syscall.EPROTO, "EPROTONOSUPPORT": syscall.EPROTONOSUPPORT, "ESHUTDOWN": syscall.ESHUTDOWN,
	"ETIMEDOUT": syscall.ETIMEDOUT, "ETOOMANYREFS": syscall.ETOOMANYREFS,
}

// farError is what package net would have for what the far kernel or resolver has answered to a call.
func farError(told *farsockpb.SocketError, call string) error {
	if strings.HasPrefix(told.GetName(), "EAI_") {
		return lookupError(told)
	}
	number, known := errnos[told.GetName()]
	if !known {
		number = syscall.Errno(told.GetNumber())
	}
	return os.NewSyscallError(call, number)
}

func lookupError(told *farsockpb.SocketError) error {
	made := &net.DNSError{Err: told.GetMessage(), Name: told.GetSubject(), IsTemporary: told.GetName() == "EAI_AGAIN"}
	if told.GetName() == "EAI_NONAME" || told.GetName() == "EAI_NODATA" {
		made.Err, made.IsNotFound = "no such host", true
	}
	return made
}

// calls are what package net calls the system calls of operations.
var calls = map[farsockpb.Operation]string{
	farsockpb.Operation_OPERATION_CREATE:     "socket",
	farsockpb.Operation_OPERATION_BIND:       "bind",
	farsockpb.Operation_OPERATION_LISTEN:     "listen",
	farsockpb.Operation_OPERATION_ACCEPT:     "accept",
	farsockpb.Operation_OPERATION_CONNECT:    "connect",
	farsockpb.Operation_OPERATION_SEND:       "sendto",
	farsockpb.Operation_OPERATION_SET_OPTION: "setsockopt",
	farsockpb.Operation_OPERATION_SHUTDOWN:   "shutdown",
}

// reported is what a report has against an operation, or nil.
func reported(report *farsockpb.Report) error {
	if told := report.GetError(); told != nil {
		call, known := calls[told.GetOperation()]
		if !known {
			call = told.GetSyscall()
		}
		return farError(told, call)
	}
	if report.GetTimedOut() {
		return errTimeout
	}
	return nil
}

// errTimeout and errCanceled are what package net answers when a dial has taken too long, or was cancelled.
var (
	errTimeout  error = &contextError{"i/o timeout", context.DeadlineExceeded}
	errCanceled error = &contextError{"operation was canceled", context.Canceled}
)

// errClosed and errMissingAddress are those of package net.
var (
	errClosed         = net.ErrClosed
	errMissingAddress = &net.AddrError{Err: "missing address"}
)

type contextError struct {
	text string
	is   error
}

func (e *contextError) Error() string        { return e.text }
func (e *contextError) Is(target error) bool { return target == e.is }
func (e *contextError) Timeout() bool        { return e.is == context.DeadlineExceeded }
func (e *contextError) Temporary() bool      { return e.Timeout() }

// ended is what an operation answers whose context has ended.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errTimeout
	}
	return errCanceled
}

// opError is the error of package net for an operation. Nil and io.EOF stay as they are.
func opError(operation, network string, source, address net.Addr, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: operation, Net: network, Source: source, Addr: address, Err: err}
}

// === Addresses ===

// addrPort is an endpoint of the API as package net/netip has it; not valid when there is none.
func addrPort(endpoint *farsockpb.Endpoint) netip.AddrPort {
	ip, err := netip.ParseAddr(endpoint.GetAddress())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip.WithZone(endpoint.GetZone()), uint16(endpoint.GetPort()))
}

func tcpAddr(endpoint *farsockpb.Endpoint) net.Addr {
	if at := addrPort(endpoint); at.IsValid() {
		return net.TCPAddrFromAddrPort(at)
	}
	return nil
}

func udpAddr(endpoint *farsockpb.Endpoint) net.Addr {
	if at := addrPort(endpoint); at.IsValid() {
		return net.UDPAddrFromAddrPort(at)
	}
	return nil
}
