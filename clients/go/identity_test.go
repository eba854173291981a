package farsock_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsocktest"
)

// pki makes certificates as people do.
func pki(t *testing.T, directory string, words ...string) {
	t.Helper()
	binary := os.Getenv("FARSOCK_BIN")
	if binary == "" {
		binary = "farsock"
	}
	made := exec.Command(binary, append([]string{"pki", "--dir", directory}, words...)...)
	if said, err := made.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

func TestCertificatesOpenAnAgent(t *testing.T) {
	lab, other := t.TempDir(), t.TempDir()
	for _, directory := range []string{lab, other} {
		pki(t, directory, "init")
		pki(t, directory, "issue", "--controller", "alice")
	}
	pki(t, lab, "issue", "localhost", "127.0.0.1")
	agent := farsocktest.New(t, "--tls-cert", filepath.Join(lab, "localhost.pem"))
	alice := filepath.Join(lab, "alice.pem")
	hello(t, openWith(t, farsock.Config{TLSCert: alice}, agent.TCPEndpoint()))
	inventory := filepath.Join(lab, "lab.yaml")
	if err := os.WriteFile(inventory, []byte("hosts:\n  lab-a: {agent: \""+agent.TCPEndpoint()+"\", tls_cert: alice.pem}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hello(t, openWith(t, farsock.Config{Inventory: inventory}, "lab-a"))

	refused := func(config farsock.Config, words string) {
		t.Helper()
		_, err := openWith(t, config, agent.TCPEndpoint()).Listen("tcp", "127.0.0.1:0")
		var agentError *farsock.AgentError
		if !errors.As(err, &agentError) || agentError.Code != codes.Unavailable || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, and not %q", err, words)
		}
	}
	strange := filepath.Join(other, "alice.pem")
	refused(farsock.Config{TLSCert: strange}, "certificate signed by unknown authority")
	refused(farsock.Config{TLSCert: strange, TLSCA: filepath.Join(lab, "ca.pem")}, "unknown certificate authority")
	if err := os.Chmod(filepath.Join(lab, "alice.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(farsock.Config{TLSCert: alice}, "alice.key can be read by others")
	if err := os.Chmod(filepath.Join(lab, "alice.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FARSOCK_TLS_CERT", alice)
	hello(t, openWith(t, farsock.Config{}, agent.TCPEndpoint()))
	// A token that was named is for agents without TLS.
	hello(t, openWith(t, farsock.Config{TokenFile: shared.TokenFile()}, shared.TCPEndpoint()))
}
