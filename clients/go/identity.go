package farsock

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// identity is where the files of a certificate are. They are read anew for each connection, because certificates are renewed.
type identity struct{ cert, key, ca string }

// identity answers whose certificate is shown: the one that was asked for, or else that of the environment where there is no token to show.
func (c *Config) identity(tokenFile, tlsCert string) *identity {
	if tlsCert == "" && c.Token == "" && tokenFile == "" {
		tlsCert = os.Getenv("FARSOCK_TLS_CERT")
	}
	if tlsCert == "" {
		return nil
	}
	first := func(texts ...string) string {
		for _, text := range texts {
			if text != "" {
				return text
			}
		}
		return ""
	}
	return &identity{
		cert: tlsCert,
		key:  first(c.TLSKey, os.Getenv("FARSOCK_TLS_KEY"), strings.TrimSuffix(tlsCert, filepath.Ext(tlsCert))+".key"),
		ca:   first(c.TLSCA, os.Getenv("FARSOCK_TLS_CA"), filepath.Join(filepath.Dir(tlsCert), "ca.pem")),
	}
}

// handshake begins TLS with an agent that is called by this address.
func (i *identity) handshake(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	key, err := readPrivate(i.key)
	if err != nil {
		return nil, err
	}
	certificate, err := os.ReadFile(i.cert)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", i.cert, i.key, err)
	}
	authority, err := os.ReadFile(i.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New(i.ca + " holds no CA certificate in PEM")
	}
	secure := tls.Client(conn, &tls.Config{
		Certificates: []tls.Certificate{pair},
		RootCAs:      roots,
		ServerName:   host,
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
	})
	return secure, secure.HandshakeContext(ctx)
}

// readPrivate reads a secret that nobody else may read.
func readPrivate(file string) ([]byte, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others: make it private (chmod 600 %[1]s)", file)
	}
	return io.ReadAll(opened)
}
