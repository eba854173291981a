package farsock_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsocktest"
)

// scale is how much the soak does: little in CI, and with FARSOCK_LONG=1 what it is for.
type scale struct {
	connections, cancelled int
	// Of each of the connections, and of one by itself.
	bytes, whole int64
	patience     time.Duration
}

func soakScale() scale {
	if os.Getenv("FARSOCK_LONG") == "" {
		return scale{connections: 50, cancelled: 50, bytes: 1 << 20, whole: 8 << 20, patience: time.Minute}
	}
	return scale{connections: 1000, cancelled: 1000, bytes: 1 << 20, whole: 100 << 20, patience: 10 * time.Minute}
}

// Many connections at once that echo, each hashed both ways; as many that are ended at random moments in every way; an agent that is restarted
// under way. Nothing is left: no goroutine and descriptor here, no descriptor there.
func TestSoak(t *testing.T) {
	scale := soakScale()
	agent := farsocktest.New(t, "--limit", "sockets=4096")
	echo := echoServer(t)
	before := countLeft(t, agent)
	host := must(farsock.Open(agent.Endpoint()))(t)
	ctx, cancel := context.WithTimeout(context.Background(), scale.patience)
	defer cancel()

	var all sync.WaitGroup
	for number := range scale.connections {
		all.Go(func() {
			if err := echoHashed(ctx, host, echo, scale.bytes, byte(number)); err != nil {
				t.Errorf("connection %d: %v", number, err)
			}
		})
	}
	for number := range scale.cancelled {
		all.Go(func() { endSomehow(ctx, host, echo, number) })
	}
	all.Wait()

	// What is under way when the agent is killed ends with an error, soon, and the same host goes on.
	var started, broken sync.WaitGroup
	for range scale.connections {
		started.Add(1)
		broken.Go(func() {
			conn, err := host.DialContext(ctx, "tcp", echo)
			started.Done()
			if err == nil {
				go func() { _, _ = io.Copy(conn, endless{}) }()
				_, err = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}
			if err == nil {
				t.Error("a connection of an agent that was killed has ended in good order")
			}
		})
	}
	started.Wait()
	if err := agent.Restart(); err != nil {
		t.Fatal(err)
	}
	broken.Wait()
	if err := echoHashed(ctx, host, echo, scale.whole, 7); err != nil {
		t.Error(err)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	nothingIsLeft(t, agent, before)
}

// echoServer is a server of this machine.
func echoServer(t *testing.T) string {
	listener := localListener(t, "127.0.0.1:0")
	go func() {
		for {
			conn, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// echoHashed sends bytes and compares what comes back by its hash.
func echoHashed(ctx context.Context, host *farsock.Host, echo string, size int64, seed byte) error {
	conn, err := host.DialContext(ctx, "tcp", echo)
	if err != nil {
		return err
	}
	defer conn.Close()
	sent, failed := sha256.New(), make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.MultiWriter(conn, sent), rand.NewChaCha8([32]byte{seed}), size)
		if err == nil {
			err = conn.(*farsock.TCPConn).CloseWrite()
		}
		failed <- err
	}()
	received, got := sha256.New(), int64(0)
	if got, err = io.Copy(received, conn); err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	return sameHash(sent, received, got, size)
}

func sameHash(sent, received hash.Hash, got, size int64) error {
	if got != size || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		return fmt.Errorf("%d bytes of %d have come back, with another hash", got, size)
	}
	return nil
}

// endSomehow begins to move bytes, and ends it at a random moment in one of all ways.
func endSomehow(ctx context.Context, host *farsock.Host, echo string, number int) {
	after := rand.N(50 * time.Millisecond)
	if number%5 == 0 {
		dialling, cancel := context.WithTimeout(ctx, after/10)
		defer cancel()
		if conn, err := host.DialContext(dialling, "tcp", echo); err == nil {
			_ = conn.Close()
		}
		return
	}
	conn, err := host.DialContext(ctx, "tcp", echo)
	if err != nil {
		return
	}
	var bytes sync.WaitGroup
	bytes.Go(func() { _, _ = io.Copy(conn, endless{}) })
	bytes.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	<-time.After(after)
	switch number % 5 {
	case 1:
		_ = conn.(*farsock.TCPConn).Abort()
	case 2:
		_ = conn.SetDeadline(time.Now())
	case 3:
		_ = conn.(*farsock.TCPConn).CloseWrite()
		_ = conn.(*farsock.TCPConn).CloseRead()
	}
	_ = conn.Close()
	bytes.Wait()
}

// endless is bytes without end.
type endless struct{}

func (endless) Read(into []byte) (int, error) { return len(into), nil }

// left is what there is to leak.
type left struct{ goroutines, descriptors, agent int }

// countLeft counts after an agent has been used once: it keeps a socket to ask the kernel by.
func countLeft(t *testing.T, agent *farsocktest.Agent) left {
	t.Run("first use", func(t *testing.T) { hello(t, agent.Host(t)) })
	return count(agent)
}

func count(agent *farsocktest.Agent) left {
	return left{runtime.NumGoroutine(), descriptors("self"), descriptors(fmt.Sprint(agent.PID()))}
}

func descriptors(process string) int {
	entries, _ := os.ReadDir("/proc/" + process + "/fd")
	return len(entries)
}

func nothingIsLeft(t *testing.T, agent *farsocktest.Agent, before left) {
	deadline := time.Now().Add(patience)
	for {
		now := count(agent)
		if now.goroutines <= before.goroutines && now.descriptors <= before.descriptors && now.agent <= before.agent {
			return
		}
		if time.Now().After(deadline) {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			t.Fatalf("%+v is left, and before there was %+v", now, before)
		}
		// Pipes that package net has used to splice are closed with the garbage.
		runtime.GC()
	}
}

// Accepting, both ends far: none is lost and none is left, whatever becomes of those that wait.
func TestSoakOfListeners(t *testing.T) {
	scale := soakScale()
	agent := farsocktest.New(t, "--limit", "sockets=4096")
	before := countLeft(t, agent)
	host := must(farsock.Open(agent.Endpoint()))(t)
	listener := must(host.Listen("tcp", "127.0.0.1:0"))(t)
	var served, said atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				text, _ := io.ReadAll(conn)
				served.Add(int64(len(text)))
				_ = conn.Close()
			})
		}
	})
	var callers sync.WaitGroup
	for range scale.connections {
		callers.Go(func() {
			var conn net.Conn
			conn, err := host.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			said.Add(4)
			writeText(t, conn, "hola")
			_ = conn.Close()
		})
	}
	callers.Wait()
	for served.Load() < said.Load() && !t.Failed() {
		runtime.Gosched()
	}
	_ = listener.Close()
	all.Wait()
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	nothingIsLeft(t, agent, before)
}
