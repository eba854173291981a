package farsock_test

import (
	"net"
	"testing"

	farsock "github.com/farsock/farsock/clients/go"
	"golang.org/x/net/nettest"
)

// What every net.Conn must do, with both ends far, and with either end far alone.
func TestConn(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		listen := map[string]func(network, address string) (net.Listener, error){"far": host.Listen, "near": net.Listen}
		dial := map[string]func(network, address string) (net.Conn, error){"far": host.Dial, "near": net.Dial}
		for _, ends := range [][2]string{{"far", "far"}, {"far", "near"}, {"near", "far"}} {
			t.Run(ends[0]+" to "+ends[1], func(t *testing.T) {
				nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
					return pipe(listen[ends[1]], dial[ends[0]], anyPort)
				})
			})
		}
	})
}

func pipe(
	listen func(network, address string) (net.Listener, error), dial func(network, address string) (net.Conn, error), anyPort string,
) (net.Conn, net.Conn, func(), error) {
	listener, err := listen("tcp", anyPort)
	if err != nil {
		return nil, nil, nil, err
	}
	defer listener.Close()
	client, err := dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, nil, nil, err
	}
	server, err := listener.Accept()
	if err != nil {
		return nil, nil, nil, err
	}
	return client, server, func() { _, _ = client.Close(), server.Close() }, nil
}
