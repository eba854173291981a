package farsock_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsockpb"
	"github.com/farsock/farsock/clients/go/farsocktest"
)

func mailbox(t testing.TB, host *farsock.Host, anyPort string) *farsock.UDPConn {
	t.Helper()
	conn := must(host.ListenPacket("udp", anyPort))(t)
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*farsock.UDPConn)
}

func nearUDP(t testing.TB, anyPort string) *net.UDPConn {
	t.Helper()
	conn := must(net.ListenPacket("udp", anyPort))(t)
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UDPConn)
}

func TestDatagramsGoBothWays(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := mailbox(t, host, anyPort), nearUDP(t, anyPort)
		into := make([]byte, 100)
		for _, text := range []string{"what time is it?", "", "late"} {
			_ = must(near.WriteTo([]byte(text), far.LocalAddr()))(t)
			size, from, err := far.ReadFrom(into)
			if err != nil || string(into[:size]) != text || from.String() != near.LocalAddr().String() {
				t.Fatalf("%q from %v, %v", into[:size], from, err)
			}
			if size, err = far.WriteTo(into[:size], from); err != nil || size != len(text) {
				t.Fatalf("%d, %v", size, err)
			}
			if size, from, err = near.ReadFrom(into); err != nil || string(into[:size]) != text || from.String() != far.LocalAddr().String() {
				t.Fatalf("%q from %v, %v", into[:size], from, err)
			}
		}
		if _, is := far.LocalAddr().(*net.UDPAddr); !is {
			t.Errorf("a local address of another kind: %#v", far.LocalAddr())
		}
	})
}

func TestWhatDoesNotFitIsLost(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far, near := mailbox(t, host, anyPort), nearUDP(t, anyPort)
		for _, text := range []string{"a long one", "next"} {
			_ = must(near.WriteTo([]byte(text), far.LocalAddr()))(t)
		}
		into := make([]byte, 4)
		for _, want := range []string{"a lo", "next"} {
			if size, _, err := far.ReadFrom(into); err != nil || string(into[:size]) != want {
				t.Errorf("%q, %v", into[:size], err)
			}
		}
	})
}

func TestConnectedUDP(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		near := nearUDP(t, anyPort)
		dialled := must(host.Dial("udp", near.LocalAddr().String()))(t)
		t.Cleanup(func() { _ = dialled.Close() })
		writeText(t, dialled, "hola")
		into := make([]byte, 100)
		size, from, err := near.ReadFrom(into)
		if err != nil || string(into[:size]) != "hola" || from.String() != dialled.LocalAddr().String() {
			t.Fatalf("%q from %v, %v", into[:size], from, err)
		}
		_ = must(near.WriteTo([]byte("adios"), from))(t)
		if size, err = dialled.Read(into); err != nil || string(into[:size]) != "adios" {
			t.Errorf("%q, %v", into[:size], err)
		}
		_, err = dialled.(*farsock.UDPConn).WriteTo([]byte("x"), from)
		if !errors.Is(err, net.ErrWriteToConnected) {
			t.Errorf("%v", err)
		}

		// Nobody is there any more: the host's ICMP message is an error of what comes next.
		_ = near.Close()
		writeText(t, dialled, "anybody?")
		_, err = dialled.Read(into)
		wantOpError(t, err, "read", "recvfrom", syscall.ECONNREFUSED)
	})
}

func TestErrorsOfUDP(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far := mailbox(t, host, anyPort)
		_, err := far.Write([]byte("to nobody"))
		wantOpError(t, err, "write", "write", syscall.EDESTADDRREQ)
		_, err = far.WriteTo(make([]byte, 65_536), far.LocalAddr())
		wantOpError(t, err, "write", "sendto", syscall.EMSGSIZE)
		_, err = host.ListenPacket("udp", far.LocalAddr().String())
		wantOpError(t, err, "listen", "bind", syscall.EADDRINUSE)
		if _, err = far.WriteTo([]byte("x"), &net.TCPAddr{}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v", err)
		}
	})
}

func TestUDPSocketsHaveDeadlinesAndAnEnd(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		far := mailbox(t, host, anyPort)
		_ = far.SetDeadline(time.Now().Add(30 * time.Millisecond))
		if _, _, err := far.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if _, err := far.WriteTo(nil, far.LocalAddr()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
		_ = far.SetDeadline(time.Time{})
		waiting := make(chan error, 1)
		go func() {
			_, _, err := far.ReadFrom(make([]byte, 1))
			waiting <- err
		}()
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
		if err := far.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
		if _, err := far.WriteTo([]byte("x"), far.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
		again := must(host.ListenPacket("udp", far.LocalAddr().String()))(t)
		_ = again.Close()
	})
}

// Many in order, by batches; and what nobody reads is counted, not kept.
func TestBatchesComeInOrderAndWhatIsTooMuchIsCounted(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		from, to := mailbox(t, host, anyPort), mailbox(t, host, anyPort)
		target := to.LocalAddr().(*net.UDPAddr).AddrPort()
		const rounds, size = 10, 20
		into := make([]byte, 100)
		for round := range rounds {
			var batch [][]byte
			for at := range size {
				batch = append(batch, fmt.Appendf(nil, "%d", round*size+at))
			}
			if sent, err := from.WriteBatch(batch, target); err != nil || sent != size {
				t.Fatalf("%d, %v", sent, err)
			}
			for at := range size {
				got, _, err := to.ReadFrom(into)
				if err != nil || string(into[:got]) != fmt.Sprint(round*size+at) {
					t.Fatalf("%q, %v", into[:got], err)
				}
			}
		}
		if err := to.SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		for at := range size {
			if _, err := from.WriteTo(make([]byte, 1000), to.LocalAddr().(*net.UDPAddr)); err != nil {
				t.Fatal(at, err)
			}
		}
		session := must(host.SessionID(within(t)))(t)
		for {
			answer := must(host.API.Sockets.GetSocket(within(t), &farsockpb.GetSocketRequest{SessionId: session, SocketId: to.SocketID()}))(t)
			if kernel := answer.GetSocket().GetDatagramsDropped(); to.Dropped()+kernel+3 >= size {
				break
			}
		}
	})
}

// The agent's log is no limit to how many datagrams a socket gets: what was read makes room.
func TestThereIsNoEndOfDatagrams(t *testing.T) {
	agent := farsocktest.New(t, "--limit", "log_events=64", "--limit", "log_bytes=65536")
	host := agent.Host(t)
	far, near := mailbox(t, host, "127.0.0.1:0"), nearUDP(t, "127.0.0.1:0")
	for round := range 500 {
		_ = must(near.WriteTo(make([]byte, 1000), far.LocalAddr()))(t)
		if size, _, err := far.ReadFrom(make([]byte, 2000)); err != nil || size != 1000 {
			t.Fatalf("the %dth: %d, %v", round+1, size, err)
		}
	}
}

func TestAUDPSocketThatIsClosedByOthersSaysSo(t *testing.T) {
	host := shared.Host(t)
	far := mailbox(t, host, "127.0.0.1:0")
	session := must(host.SessionID(within(t)))(t)
	_ = must(host.API.Sockets.CloseSocket(within(t), &farsockpb.CloseSocketRequest{SessionId: session, SocketId: far.SocketID()}))(t)
	if _, _, err := far.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}
