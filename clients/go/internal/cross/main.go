// Cross is the Go end of the exercise that all clients play with each other; clients/cross/run starts it.
//
// A server prints the addresses of a listener and of a UDP socket, serves one connection and one datagram, and ends. A client talks to both.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	farsock "github.com/farsock/farsock/clients/go"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) < 3 {
		return errors.New("cross server AGENT ADDRESS, or cross client AGENT TCP UDP")
	}
	host, err := farsock.Open(words[1])
	if err != nil {
		return err
	}
	defer host.Close()
	if words[0] == "server" {
		return server(host, net.JoinHostPort(words[2], "0"))
	}
	return client(host, words[2], words[3])
}

func server(host *farsock.Host, address string) error {
	door, err := host.Listen("tcp", address)
	if err != nil {
		return err
	}
	mail, err := host.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	fmt.Println(door.Addr(), mail.LocalAddr())

	line, err := door.Accept()
	if err != nil {
		return err
	}
	bytes, err := io.ReadAll(line)
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(line, "%x", sha256.Sum256(bytes)); err != nil {
		return err
	}
	if err = line.Close(); err != nil {
		return err
	}
	into := make([]byte, 100)
	size, from, err := mail.ReadFrom(into)
	if err != nil {
		return err
	}
	_, err = mail.WriteTo(into[:size], from)
	return err
}

func client(host *farsock.Host, tcp, udp string) error {
	line, err := host.Dial("tcp", tcp)
	if err != nil {
		return err
	}
	bytes := make([]byte, 1<<20)
	for at := range bytes {
		bytes[at] = byte(at*31 + at/251)
	}
	if _, err = line.Write(bytes); err != nil {
		return err
	}
	if err = line.(*farsock.TCPConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(line)
	if err != nil {
		return err
	}
	if err = same(string(answer), fmt.Sprintf("%x", sha256.Sum256(bytes))); err != nil {
		return err
	}

	ask, err := host.Dial("udp", udp)
	if err != nil {
		return err
	}
	if _, err = ask.Write([]byte("hola")); err != nil {
		return err
	}
	into := make([]byte, 100)
	size, err := ask.Read(into)
	if err != nil {
		return err
	}
	return same(string(into[:size]), "hola")
}

func same(got, wanted string) error {
	if got != wanted {
		return fmt.Errorf("%q, and not %q", got, wanted)
	}
	return nil
}
