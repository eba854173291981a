// Bench measures this client through one agent beside the same code on sockets of this machine, and prints ratios.
//
//	FARSOCK_BIN=…/farsock go run ./internal/bench
//
// A round measures one side, then the other; the first only warms up. FARSOCK_BENCH_QUICK=1 does each once, to see that it runs.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsocktest"
)

// side is where the sockets are that are measured. The peers are always of this machine.
type side interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

// local is package net.
type local struct{ *net.Dialer }

func (local) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

func (local) ListenPacket(network, address string) (net.PacketConn, error) {
	return net.ListenPacket(network, address)
}

// figure is one thing that is measured, in units a second.
type figure struct {
	name, unit string
	measure    func(side, time.Duration) (float64, error)
}

var figures = []figure{
	{"write", "MB/s", bulkOut},
	{"read", "MB/s", bulkIn},
	{"round trip, 64 B", "/s", pingPong},
	{"dial, one byte, close", "/s", dials},
	{"accept, one byte, close", "/s", accepts},
	{"datagram round trip, 64 B", "/s", datagrams},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	rounds, span := 7, time.Second
	if os.Getenv("FARSOCK_BENCH_QUICK") != "" {
		rounds, span = 1, 50*time.Millisecond
	}
	agent, err := farsocktest.Start(farsocktest.Config{Args: []string{"--limit", "closed_sockets=16"}})
	if err != nil {
		return err
	}
	host, err := farsock.Open(agent.Endpoint())
	if err != nil {
		return err
	}
	for _, figure := range figures {
		var fars, nears, ratios []float64
		for round := range rounds + 1 {
			far, err := figure.measure(host, span)
			if err != nil {
				return fmt.Errorf("%s: %w", figure.name, err)
			}
			near, err := figure.measure(local{new(net.Dialer)}, span)
			if err != nil {
				return fmt.Errorf("%s: %w", figure.name, err)
			}
			if round > 0 {
				fars, nears, ratios = append(fars, far), append(nears, near), append(ratios, far/near)
			}
		}
		fmt.Printf("%s: far %.0f %s, local %.0f %s: %.3f (%.3f–%.3f)\n", figure.name, median(fars), figure.unit, median(nears), figure.unit,
			median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
	return errorsOf(host.Close(), agent.Stop())
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// peer is a server of this machine that does something with each connection.
func peer(serve func(net.Conn)) (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener, nil
}

// with dials a peer.
func with(on side, serve func(net.Conn), use func(net.Conn) (float64, error)) (float64, error) {
	listener, err := peer(serve)
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	conn, err := on.DialContext(context.Background(), "tcp", listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return use(conn)
}

func bulkOut(on side, span time.Duration) (float64, error) {
	drain := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	return with(on, drain, func(conn net.Conn) (float64, error) {
		buffer, total, begin := make([]byte, 64<<10), 0, time.Now()
		for time.Since(begin) < span {
			size, err := conn.Write(buffer)
			if err != nil {
				return 0, err
			}
			total += size
		}
		return float64(total) / 1e6 / time.Since(begin).Seconds(), nil
	})
}

func bulkIn(on side, span time.Duration) (float64, error) {
	pour := func(conn net.Conn) {
		buffer := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(buffer); err != nil {
				return
			}
		}
	}
	return with(on, pour, func(conn net.Conn) (float64, error) {
		buffer, total, begin := make([]byte, 64<<10), 0, time.Now()
		for time.Since(begin) < span {
			size, err := conn.Read(buffer)
			if err != nil {
				return 0, err
			}
			total += size
		}
		return float64(total) / 1e6 / time.Since(begin).Seconds(), nil
	})
}

// often counts how often something can be done.
func often(span time.Duration, act func() error) (float64, error) {
	count, begin := 0, time.Now()
	for time.Since(begin) < span {
		if err := act(); err != nil {
			return 0, err
		}
		count++
	}
	return float64(count) / time.Since(begin).Seconds(), nil
}

func echo(conn net.Conn) {
	buffer := make([]byte, 64)
	for {
		size, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err = conn.Write(buffer[:size]); err != nil {
			return
		}
	}
}

func pingPong(on side, span time.Duration) (float64, error) {
	return with(on, echo, func(conn net.Conn) (float64, error) {
		buffer := make([]byte, 64)
		return often(span, func() error {
			if _, err := conn.Write(buffer); err != nil {
				return err
			}
			_, err := io.ReadFull(conn, buffer)
			return err
		})
	})
}

// oneByte dials from one side, and closes when a byte has come back.
func oneByte(from side, address string) error {
	conn, err := from.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func dials(on side, span time.Duration) (float64, error) {
	listener, err := peer(echo)
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return often(span, func() error { return oneByte(on, listener.Addr().String()) })
}

func accepts(on side, span time.Duration) (float64, error) {
	listener, err := on.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				echo(conn)
			}()
		}
	}()
	return often(span, func() error { return oneByte(local{new(net.Dialer)}, listener.Addr().String()) })
}

func datagrams(on side, span time.Duration) (float64, error) {
	near, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer near.Close()
	go func() {
		buffer := make([]byte, 64)
		for {
			size, from, err := near.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = near.WriteTo(buffer[:size], from)
		}
	}()
	conn, err := on.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	buffer := make([]byte, 64)
	return often(span, func() error {
		if _, err := conn.WriteTo(buffer, near.LocalAddr()); err != nil {
			return err
		}
		_, _, err := conn.ReadFrom(buffer)
		return err
	})
}
