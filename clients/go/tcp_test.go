package farsock_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsockpb"
)

func randomBytes(size int, seed byte) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func TestBytesGoBothWaysWholeAndInOrder(t *testing.T) {
	const size = 8 << 20
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		listener := door(t, host, anyPort)
		dialled, peer := line(t, host, anyPort)
		accepted, caller := connect(t, listener)
		for _, ends := range [][2]net.Conn{{dialled, peer}, {accepted, caller}} {
			out, back := randomBytes(size, 1), randomBytes(size, 2)
			failed := make(chan error, 2)
			send := func(conn net.Conn, data []byte) {
				_, err := conn.Write(data)
				failed <- errors.Join(err, conn.(interface{ CloseWrite() error }).CloseWrite())
			}
			go send(ends[0], out)
			go send(ends[1], back)
			received := make(chan []byte, 1)
			go func() {
				data, _ := io.ReadAll(ends[1])
				received <- data
			}()
			var got bytes.Buffer
			if _, err := io.Copy(&got, ends[0]); err != nil || !bytes.Equal(got.Bytes(), back) {
				t.Fatalf("%d bytes have come back, %v", got.Len(), err)
			}
			if data := <-received; sha256.Sum256(data) != sha256.Sum256(out) {
				t.Fatalf("%d bytes have arrived", len(data))
			}
			if err := errors.Join(<-failed, <-failed); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAddressesAreThoseOfTheFarSocket(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := line(t, host, anyPort)
		if far.LocalAddr().String() != near.RemoteAddr().String() || far.RemoteAddr().String() != near.LocalAddr().String() {
			t.Errorf("%v to %v, and the peer says %v to %v", far.LocalAddr(), far.RemoteAddr(), near.LocalAddr(), near.RemoteAddr())
		}
		if _, is := far.LocalAddr().(*net.TCPAddr); !is || far.LocalAddr().Network() != "tcp" {
			t.Errorf("a local address of another kind: %#v", far.LocalAddr())
		}
	})
}

// As package net has them: no delay, and keepalive after 15 s, for accepted connections too.
func TestOptionsArePackageNetsOwn(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		dialled, _ := line(t, host, anyPort)
		accepted, _ := connect(t, door(t, host, anyPort))
		session := must(host.SessionID(within(t)))(t)
		for _, conn := range []*farsock.TCPConn{dialled, accepted} {
			read := func(name string) *farsockpb.SocketOption {
				answer := must(host.API.Sockets.GetSocketOptions(within(t), &farsockpb.GetSocketOptionsRequest{
					SessionId: session, SocketId: conn.SocketID(), Names: []string{name},
				}))(t)
				return answer.GetOptions()[0].GetEffective()
			}
			if !read("TCP_NODELAY").GetEnabled() || !read("SO_KEEPALIVE").GetEnabled() {
				t.Error("TCP_NODELAY and SO_KEEPALIVE are on in package net")
			}
			if idle := read("TCP_KEEPIDLE").GetDuration().AsDuration(); idle != 15*time.Second {
				t.Errorf("TCP_KEEPIDLE is %v", idle)
			}
			if err := errors.Join(conn.SetNoDelay(false), conn.SetKeepAlivePeriod(1500*time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if read("TCP_NODELAY").GetEnabled() || read("TCP_KEEPINTVL").GetDuration().AsDuration() != 2*time.Second {
				t.Error("they were not set")
			}
		}
	})
}

func TestHalfClose(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := line(t, host, anyPort)
		writeText(t, far, "any questions?")
		if err := far.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if text := must(io.ReadAll(near))(t); string(text) != "any questions?" {
			t.Fatalf("%q", text)
		}
		_, err := far.Write([]byte("x"))
		wantOpError(t, err, "write", "write", syscall.EPIPE)
		writeText(t, near, "none")
		_ = near.CloseWrite()
		if text := must(io.ReadAll(far))(t); string(text) != "none" {
			t.Fatalf("%q", text)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the end comes again and again, and not %v", err)
		}
	})
}

func TestThePeerCanEndFirst(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := connect(t, door(t, host, anyPort))
		_ = near.CloseWrite()
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("%v", err)
		}
		writeText(t, far, "still here")
		if text := readText(t, near, 10); text != "still here" {
			t.Errorf("%q", text)
		}
	})
}

func TestCloseRead(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := line(t, host, anyPort)
		waiting := make(chan error, 1)
		go func() {
			_, err := far.Read(make([]byte, 1))
			waiting <- err
		}()
		if err := far.CloseRead(); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; err != io.EOF {
			t.Errorf("who waits gets the end, and not %v", err)
		}
		event(t, host, far.SocketID(), "shut_down")
		writeText(t, far, "out")
		if text := readText(t, near, 3); text != "out" {
			t.Errorf("%q", text)
		}
	})
}

// What was written is delivered, however soon the close comes.
func TestCloseDeliversWhatWasWritten(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		listener := door(t, host, anyPort)
		dialled, peer := line(t, host, anyPort)
		accepted, caller := connect(t, listener)
		for _, ends := range [][2]net.Conn{{dialled, peer}, {accepted, caller}} {
			data := randomBytes(300_000, 3)
			done := make(chan error, 1)
			go func() {
				_, err := ends[0].Write(data)
				done <- errors.Join(err, ends[0].Close())
			}()
			if got := must(io.ReadAll(ends[1]))(t); !bytes.Equal(got, data) {
				t.Errorf("%d bytes have arrived", len(got))
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// Linux answers with a RST when a socket is closed in which bytes are left.
func TestCloseWithUnreadBytesResets(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := line(t, host, anyPort)
		// More than was granted, so that some stay in the far kernel.
		go func() { _, _ = near.Write(make([]byte, 4<<20)) }()
		readText(t, far, 1)
		event(t, host, far.SocketID(), "attached")
		for socket(t, host, far.SocketID()).GetQueues().GetReceiveBytes() == 0 {
		}
		_ = far.Close()
		if _, err := io.ReadAll(near); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a reset was wanted, and this is %v", err)
		}
	})
}

func TestAbortAndLingerOfZeroReset(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		aborts := map[string]func(*farsock.TCPConn) error{
			"Abort":        (*farsock.TCPConn).Abort,
			"SetLinger(0)": func(c *farsock.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
		}
		for name, abort := range aborts {
			far, near := line(t, host, anyPort)
			if err := abort(far); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: a reset was wanted, and this is %v", name, err)
			}
			event(t, host, far.SocketID(), "aborted")
		}
	})
}

func TestAResetByThePeerIsToldOnce(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := connect(t, door(t, host, anyPort))
		writeText(t, near, "last words")
		if text := readText(t, far, 10); text != "last words" {
			t.Fatalf("%q", text)
		}
		_ = near.SetLinger(0)
		_ = near.Close()
		_, err := far.Read(make([]byte, 1))
		wantOpError(t, err, "read", "read", syscall.ECONNRESET)
		// As recv(2) and send(2) go on.
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the reset there is the end, and not %v", err)
		}
		_, err = far.Write([]byte("x"))
		wantOpError(t, err, "write", "write", syscall.EPIPE)
	})
}

// A reader that does not read: the far peer can write no more than buffers hold.
func TestASlowReaderClosesTheFarWindow(t *testing.T) {
	const size = 16 << 20
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := line(t, host, anyPort)
		data := randomBytes(size, 4)
		_ = near.SetWriteBuffer(1 << 16)
		_ = near.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		written, err := near.Write(data)
		if !errors.Is(err, os.ErrDeadlineExceeded) || written > size/2 {
			t.Fatalf("nobody reads, and the peer has written %d bytes: %v", written, err)
		}
		if read := socket(t, host, far.SocketID()).GetBytesRead(); read > 1<<20 {
			t.Errorf("the agent has read %d bytes that nobody has asked for", read)
		}
		_ = near.SetWriteDeadline(time.Time{})
		go func() {
			_, _ = near.Write(data[written:])
			_ = near.CloseWrite()
		}()
		if got := must(io.ReadAll(far))(t); !bytes.Equal(got, data) {
			t.Errorf("%d bytes have arrived", len(got))
		}
	})
}

func TestWritesWaitForAPeerThatDoesNotRead(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := line(t, host, anyPort)
		data := randomBytes(32<<20, 5)
		_ = far.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		written, err := far.Write(data)
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() || written == len(data) {
			t.Fatalf("%d bytes were written: %v", written, err)
		}
		// Nothing of what counts as written is lost, and nothing else comes.
		go func() { _ = far.CloseWrite() }()
		if got := must(io.ReadAll(near))(t); !bytes.Equal(got, data[:written]) {
			t.Errorf("%d bytes of %d have arrived", len(got), written)
		}
	})
}

// The bytes of one write stay together, whoever else writes.
func TestWritesAreNotMixed(t *testing.T) {
	const writers, size = 8, 700_000
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := line(t, host, anyPort)
		var all sync.WaitGroup
		for number := range writers {
			all.Go(func() {
				if _, err := far.Write(bytes.Repeat([]byte{byte(number)}, size)); err != nil {
					t.Error(err)
				}
			})
		}
		for range writers {
			got := make([]byte, size)
			if _, err := io.ReadFull(near, got); err != nil || bytes.Count(got, got[:1]) != size {
				t.Fatalf("mixed, or %v", err)
			}
		}
		all.Wait()
	})
}

func TestErrorsOfDialAndListen(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		taken := localListener(t, anyPort)
		_, err := host.Listen("tcp", taken.Addr().String())
		wantOpError(t, err, "listen", "bind", syscall.EADDRINUSE)

		free := localListener(t, anyPort)
		_ = free.Close()
		_, err = host.Dial("tcp", free.Addr().String())
		wantOpError(t, err, "dial", "connect", syscall.ECONNREFUSED)
		if err.Error() != "dial tcp "+free.Addr().String()+": connect: connection refused" {
			t.Errorf("it reads: %v", err)
		}

		var unknown *net.DNSError
		if _, err = host.Dial("tcp", "no-such-host.invalid:80"); !errors.As(err, &unknown) || !unknown.IsNotFound {
			t.Errorf("a name that does not exist: %v", err)
		}
		var address *net.AddrError
		for _, bad := range []string{"127.0.0.1", "[::1]", "nowhere", "127.1:80", "127.0.0.1:70000", "[fe80::1%nowhere]:80"} {
			if _, err = host.Dial("tcp", bad); !errors.As(err, &address) {
				t.Errorf("%s is no address: %v", bad, err)
			}
		}
		if _, err = host.Dial("sctp", anyPort); !errors.As(err, new(net.UnknownNetworkError)) {
			t.Errorf("no such network: %v", err)
		}
	})
}

func TestNetworksHaveTheirFamily(t *testing.T) {
	host := shared.Host(t)
	for at, family := range families {
		other := families[1-at]
		listener := must(host.Listen(family.tcp, family.any))(t)
		if conn, err := host.Dial(family.tcp, listener.Addr().String()); err != nil {
			t.Error(err)
		} else {
			_ = conn.Close()
		}
		if _, err := host.Dial(other.tcp, listener.Addr().String()); err == nil {
			t.Errorf("%s has reached %v", other.tcp, listener.Addr())
		}
		_ = listener.Close()
	}
}

// The IPv6 wildcard means both families, and with tcp6 only one, as in package net.
func TestTheWildcardIsOfBothFamilies(t *testing.T) {
	host := shared.Host(t)
	for network, both := range map[string]bool{"tcp": true, "tcp6": false} {
		listener := must(host.Listen(network, "[::]:0"))(t)
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if (err == nil) != both {
			t.Errorf("%s by IPv4: %v", network, err)
		}
		if err == nil {
			accepted := must(listener.Accept())(t)
			if accepted.RemoteAddr().String() != conn.LocalAddr().String() {
				t.Errorf("%v was accepted as %v", conn.LocalAddr(), accepted.RemoteAddr())
			}
			_, _ = conn.Close(), accepted.Close()
		}
		_ = listener.Close()
	}
}

// A listener whose queue is full answers no SYN: a dial waits, until somebody has enough.
func TestDialsThatWaitCanBeEnded(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		full := must((&farsock.ListenConfig{Host: host, Backlog: 1}).Listen(within(t), "tcp", anyPort))(t)
		t.Cleanup(func() { _ = full.Close() })
		for range 2 {
			conn := must(net.Dial("tcp", full.Addr().String()))(t)
			t.Cleanup(func() { _ = conn.Close() })
		}
		address := full.Addr().String()

		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_, err := host.DialContext(ctx, "tcp", address)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a deadline: %v", err)
		}
		_, err = (&farsock.Dialer{Host: host, Timeout: 200 * time.Millisecond}).Dial("tcp", address)
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("a timeout: %v", err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err = host.DialContext(ctx, "tcp", address); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancel: %v", err)
		}
		// What nobody waits for any more does not stay: the listener is the only socket.
		session := must(host.SessionID(within(t)))(t)
		for {
			open := must(host.API.Sockets.ListSockets(within(t), &farsockpb.ListSocketsRequest{SessionId: session}))(t).GetSockets()
			if len(open) == 1 {
				break
			}
		}
	})
}

func TestDialFromAnAddress(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		listener := localListener(t, anyPort)
		free := localListener(t, anyPort)
		_ = free.Close()
		dialer := farsock.Dialer{Host: host, LocalAddr: free.Addr(), SocketID: "from", KeepAlive: -1}
		conn := must(dialer.Dial("tcp", listener.Addr().String()))(t)
		defer conn.Close()
		if conn.LocalAddr().String() != free.Addr().String() || conn.(*farsock.TCPConn).SocketID() != "from" {
			t.Errorf("%v, %s", conn.LocalAddr(), conn.(*farsock.TCPConn).SocketID())
		}
	})
}

func TestListenersHaveDeadlinesAndAnEnd(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		listener := door(t, host, anyPort)
		_ = listener.SetDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := listener.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		// Whoever comes meanwhile is there for the next one who accepts.
		_ = listener.SetDeadline(time.Time{})
		far, near := connect(t, listener)
		writeText(t, near, "hola")
		if text := readText(t, far, 4); text != "hola" {
			t.Errorf("%q", text)
		}

		waiting := make(chan error, 1)
		go func() {
			_, err := listener.Accept()
			waiting <- err
		}()
		address := listener.Addr().String()
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
		// The port is free, and what was accepted goes on.
		again := must(host.Listen("tcp", address))(t)
		_ = again.Close()
		writeText(t, far, "adios")
		if text := readText(t, near, 5); text != "adios" {
			t.Errorf("%q", text)
		}
	})
}

func TestManyAcceptAtOnce(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		const count = 50
		listener := door(t, host, anyPort)
		accepted := make(chan net.Conn, count)
		for range 10 {
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					accepted <- conn
				}
			}()
		}
		for range count {
			near := must(net.Dial("tcp", listener.Addr().String()))(t)
			t.Cleanup(func() { _ = near.Close() })
		}
		for range count {
			select {
			case conn := <-accepted:
				_ = conn.Close()
			case <-within(t).Done():
				t.Fatal("not everybody was accepted")
			}
		}
	})
}

// Who is at the other end of the stream does not matter to a socket that somebody else closes.
func TestASocketThatIsClosedByOthersSaysSo(t *testing.T) {
	host := shared.Host(t)
	far, _ := line(t, host, "127.0.0.1:0")
	session := must(host.SessionID(within(t)))(t)
	_ = must(host.API.Sockets.AbortSocket(within(t), &farsockpb.AbortSocketRequest{SessionId: session, SocketId: far.SocketID()}))(t)
	_, err := far.Read(make([]byte, 1))
	var refused *farsock.AgentError
	if !errors.Is(err, net.ErrClosed) || !errors.As(err, &refused) || refused.Reason != "SOCKET_CLOSED" {
		t.Errorf("%v", err)
	}
}
