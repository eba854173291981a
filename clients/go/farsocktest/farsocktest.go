// Package farsocktest starts agents for tests: each in a process of its own, on a Unix socket in a directory of its own, gone with the test.
package farsocktest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	farsock "github.com/farsock/farsock/clients/go"
)

// patience is how long an agent may take to start, and to stop.
const patience = 20 * time.Second

// Config says how an agent is started.
type Config struct {
	// Binary is the program. Empty: FARSOCK_BIN, or farsock in PATH.
	Binary string
	// Args are more words for its command line, such as "--lab-address", "127.0.0.2".
	Args []string
}

// Agent is an agent that belongs to this process.
type Agent struct {
	config    Config
	directory string

	mu    sync.Mutex
	child *exec.Cmd
	ready ready
}

// ready is what an agent says of itself.
type ready struct {
	Endpoints  []string `json:"endpoints"`
	TokenFile  string   `json:"token_file"`
	InstanceID string   `json:"instance_id"`
}

// New is Start for a test, which it ends if the agent does not start, and with which the agent stops.
func New(t testing.TB, args ...string) *Agent {
	t.Helper()
	agent, err := Start(Config{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := agent.Stop(); err != nil {
			t.Error(err)
		}
	})
	return agent
}

// Start starts an agent that is reached by a Unix socket, and by loopback TCP with a token.
func Start(config Config) (*Agent, error) {
	directory, err := os.MkdirTemp("", "farsock-")
	if err != nil {
		return nil, err
	}
	agent := &Agent{config: config, directory: directory}
	if err := agent.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(directory))
	}
	return agent, nil
}

// Endpoint is where it is reached by its Unix socket, also after a restart.
func (a *Agent) Endpoint() string { return "unix:" + filepath.Join(a.directory, "agent.sock") }

// TCPEndpoint is where it is reached by TCP: another port after a restart.
func (a *Agent) TCPEndpoint() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.IndexFunc(a.ready.Endpoints, func(text string) bool { return !strings.HasPrefix(text, "unix:") })
	if at < 0 {
		return ""
	}
	return a.ready.Endpoints[at]
}

// TokenFile has the token for TCP: another one after a restart.
func (a *Agent) TokenFile() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready.TokenFile
}

// InstanceID is its life: another one after a restart.
func (a *Agent) InstanceID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready.InstanceID
}

// PID is its process.
func (a *Agent) PID() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.child.Process.Pid
}

// Host opens the host of the agent, until the test ends.
func (a *Agent) Host(t testing.TB) *farsock.Host {
	t.Helper()
	host, err := farsock.Open(a.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	return host
}

// Restart kills the agent, as a power cut would, and starts it again in the same place.
func (a *Agent) Restart() error {
	a.end(syscall.SIGKILL)
	return a.start()
}

// Stop stops the agent in good order, and removes what it has left.
func (a *Agent) Stop() error {
	a.end(syscall.SIGTERM)
	return os.RemoveAll(a.directory)
}

func (a *Agent) start() error {
	binary := a.config.Binary
	if binary == "" {
		binary = os.Getenv("FARSOCK_BIN")
	}
	if binary == "" {
		binary = "farsock"
	}
	reads, writes, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reads.Close()
	args := []string{"agent", "--listen", a.Endpoint(), "--listen", "127.0.0.1:0", "--ready-fd", "3"}
	child := exec.Command(binary, append(args, a.config.Args...)...)
	// What the environment says to agents is not meant for this one.
	child.Env = slices.DeleteFunc(os.Environ(), func(each string) bool { return strings.HasPrefix(each, "FARSOCK_") })
	child.Env = append(child.Env, "XDG_RUNTIME_DIR="+a.directory)
	child.ExtraFiles = []*os.File{writes}
	child.Stderr = os.Stderr
	child.SysProcAttr = dieWithParent()
	err = child.Start()
	writes.Close()
	if err != nil {
		return fmt.Errorf("no agent: %w; FARSOCK_BIN names the farsock binary where it is not in PATH", err)
	}
	_ = reads.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(reads).ReadBytes('\n')
	var told ready
	if err == nil {
		err = json.Unmarshal(line, &told)
	}
	if err != nil {
		_ = child.Process.Kill()
		return fmt.Errorf("%s agent has not become ready: %w", binary, errors.Join(err, child.Wait()))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.child, a.ready = child, told
	return nil
}

func (a *Agent) end(signal syscall.Signal) {
	a.mu.Lock()
	child := a.child
	a.mu.Unlock()
	if child.ProcessState != nil {
		return
	}
	_ = child.Process.Signal(signal)
	late := time.AfterFunc(patience, func() { _ = child.Process.Kill() })
	defer late.Stop()
	// That it was killed is what was asked for.
	_ = child.Wait()
}
