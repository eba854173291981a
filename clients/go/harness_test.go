package farsock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsockpb"
	"github.com/farsock/farsock/clients/go/farsocktest"
)

// patience is how long anything may take that is waited for.
const patience = 20 * time.Second

// shared is an agent for all tests that do not mind others.
var shared *farsocktest.Agent

func TestMain(m *testing.M) {
	agent, err := farsocktest.Start(farsocktest.Config{Args: []string{"--limit", "sessions=256"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared = agent
	code := m.Run()
	if err := agent.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// families are the loopback addresses, with the networks that only they fit.
var families = []struct{ name, any, tcp, udp string }{
	{"IPv4", "127.0.0.1:0", "tcp4", "udp4"},
	{"IPv6", "[::1]:0", "tcp6", "udp6"},
}

// eachFamily runs a test on a host of its own over IPv4 and IPv6.
func eachFamily(t *testing.T, test func(t *testing.T, host *farsock.Host, anyPort string)) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			t.Parallel()
			test(t, shared.Host(t), family.any)
		})
	}
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// localListener is a listener of this machine.
func localListener(t testing.TB, anyPort string) *net.TCPListener {
	listener := must(net.Listen("tcp", anyPort))(t)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.(*net.TCPListener)
}

// line is a far connection to a socket of this machine.
func line(t testing.TB, host *farsock.Host, anyPort string) (*farsock.TCPConn, *net.TCPConn) {
	t.Helper()
	listener := localListener(t, anyPort)
	far := must(host.DialContext(within(t), "tcp", listener.Addr().String()))(t)
	near := must(listener.AcceptTCP())(t)
	t.Cleanup(func() { _, _ = far.Close(), near.Close() })
	return far.(*farsock.TCPConn), near
}

// door is a far listener, and connect a far connection that it has accepted, with its peer on this machine.
func door(t testing.TB, host *farsock.Host, anyPort string) *farsock.TCPListener {
	t.Helper()
	listener := must(host.Listen("tcp", anyPort))(t)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.(*farsock.TCPListener)
}

func connect(t testing.TB, listener *farsock.TCPListener) (*farsock.TCPConn, *net.TCPConn) {
	t.Helper()
	near := must(net.Dial("tcp", listener.Addr().String()))(t)
	far := must(listener.AcceptTCP())(t)
	t.Cleanup(func() { _, _ = far.Close(), near.Close() })
	return far, near.(*net.TCPConn)
}

func readText(t testing.TB, from io.Reader, size int) string {
	t.Helper()
	into := make([]byte, size)
	if _, err := io.ReadFull(from, into); err != nil {
		t.Fatal(err)
	}
	return string(into)
}

func writeText(t testing.TB, to io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(to, text); err != nil {
		t.Fatal(err)
	}
}

// wantOpError checks that an error is that of package net, down to the number.
func wantOpError(t testing.TB, err error, operation, call string, number syscall.Errno) {
	t.Helper()
	var op *net.OpError
	var system *os.SyscallError
	if !errors.As(err, &op) || op.Op != operation || !errors.As(err, &system) || system.Syscall != call || !errors.Is(err, number) {
		t.Errorf("%s of %s with %v was wanted, and this is %#v: %v", call, operation, number, err, err)
	}
}

// socket is a far socket as it is now.
func socket(t testing.TB, host *farsock.Host, id string) *farsockpb.Socket {
	t.Helper()
	session := must(host.SessionID(within(t)))(t)
	answer := must(host.API.Sockets.GetSocket(within(t), &farsockpb.GetSocketRequest{SessionId: session, SocketId: id}))(t)
	return answer.GetSocket()
}

// event waits for an event of a socket.
func event(t testing.TB, host *farsock.Host, id, kind string) *farsockpb.Event {
	t.Helper()
	session := must(host.SessionID(within(t)))(t)
	answer := must(host.API.Events.WaitEvent(within(t), &farsockpb.WaitEventRequest{
		SessionId: session, Filter: &farsockpb.EventFilter{SocketIds: []string{id}, Kinds: []string{kind}},
	}))(t)
	if answer.GetEvent() == nil {
		t.Fatalf("no event %s of %s has come", kind, id)
	}
	return answer.GetEvent()
}
