package farsock_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	farsock "github.com/farsock/farsock/clients/go"
)

// proxy is a way to the shared agent that can be cut.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	open     map[net.Conn]struct{}
}

// cuttable is a host that is reached by a proxy.
func cuttable(t *testing.T) (*farsock.Host, *proxy) {
	p := &proxy{listener: localListener(t, "127.0.0.1:0"), open: map[net.Conn]struct{}{}}
	go func() {
		for {
			conn, err := p.listener.Accept()
			if err != nil {
				return
			}
			agent, err := net.Dial("unix", strings.TrimPrefix(shared.Endpoint(), "unix:"))
			if err != nil {
				_ = conn.Close()
				continue
			}
			p.mu.Lock()
			p.open[conn], p.open[agent] = struct{}{}, struct{}{}
			p.mu.Unlock()
			go func() { _, _ = io.Copy(conn, agent) }()
			go func() { _, _ = io.Copy(agent, conn) }()
		}
	}()
	t.Cleanup(p.cut)
	return openWith(t, farsock.Config{Token: "none is asked for here"}, p.listener.Addr().String()), p
}

// cut ends all connections. New ones can be made.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
	clear(p.open)
}

// The agent lives on and the session with it: nothing is missing in the watch, and whoever waits at a listener still gets who comes.
func TestWhatGoesOnWhenTheAgentWasOutOfReach(t *testing.T) {
	host, proxy := cuttable(t)
	watch := must((&farsock.WatchConfig{Host: host}).Watch(within(t)))(t)
	defer watch.Close()
	listener, packets := door(t, host, "127.0.0.1:0"), mailbox(t, host, "127.0.0.1:0")
	far, _ := line(t, host, "127.0.0.1:0")
	accepted := make(chan error, 1)
	go func() { accepted <- drop(listener.Accept()) }()
	last := uint64(0)
	seen := func(kind string) {
		for {
			item := must(watch.Next(within(t)))(t)
			seq := item.Event.GetEventSeq()
			if seq != last+1 {
				t.Fatalf("%v after %d", item, last)
			}
			if last = seq; item.Event.GetKind() == kind {
				return
			}
		}
	}
	seen("attached")
	instance, _ := watch.Position()

	proxy.cut()
	var refused *farsock.AgentError
	if _, err := far.Read(make([]byte, 1)); !errors.As(err, &refused) {
		t.Errorf("the connection's stream was lost: %v", err)
	}
	near := must(net.Dial("tcp", listener.Addr().String()))(t)
	t.Cleanup(func() { _ = near.Close() })
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	other := nearUDP(t, "127.0.0.1:0")
	_ = must(other.WriteTo([]byte("hola"), packets.LocalAddr()))(t)
	if size, _, err := packets.ReadFrom(make([]byte, 10)); err != nil || size != 4 {
		t.Errorf("%d, %v", size, err)
	}
	seen("aborted")
	seen("datagram_received")
	if now, _ := watch.Position(); now != instance {
		t.Errorf("another instance: %s", now)
	}
}
