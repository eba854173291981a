package farsock_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsockpb"
	"github.com/farsock/farsock/clients/go/farsocktest"
)

// hello moves a few bytes each way, to see that a host works.
func hello(t *testing.T, host *farsock.Host) {
	t.Helper()
	far, near := line(t, host, "127.0.0.1:0")
	writeText(t, far, "hola")
	writeText(t, near, "adios")
	if text := readText(t, near, 4) + readText(t, far, 5); text != "holaadios" {
		t.Errorf("%q", text)
	}
}

func openWith(t *testing.T, config farsock.Config, name string) *farsock.Host {
	t.Helper()
	host := must(config.Open(name))(t)
	t.Cleanup(func() { _ = host.Close() })
	return host
}

func TestAgentsAreReachedInEveryWay(t *testing.T) {
	token := must(os.ReadFile(shared.TokenFile()))(t)
	hello(t, openWith(t, farsock.Config{}, shared.Endpoint()))
	hello(t, openWith(t, farsock.Config{TokenFile: shared.TokenFile()}, shared.TCPEndpoint()))
	hello(t, openWith(t, farsock.Config{Token: strings.TrimSpace(string(token))}, shared.TCPEndpoint()))

	wrong := openWith(t, farsock.Config{Token: "wrong"}, shared.TCPEndpoint())
	_, err := wrong.Dial("tcp", "127.0.0.1:1")
	var refused *farsock.AgentError
	if !errors.As(err, &refused) || refused.Code != codes.Unauthenticated || refused.Reason != "UNAUTHENTICATED" {
		t.Errorf("%v", err)
	}
	open := filepath.Join(t.TempDir(), "open.token")
	if err := errors.Join(os.WriteFile(open, token, 0o600), os.Chmod(open, 0o640)); err != nil {
		t.Fatal(err)
	}
	_, err = openWith(t, farsock.Config{TokenFile: open}, shared.TCPEndpoint()).Dial("tcp", "127.0.0.1:1")
	if err == nil || !strings.Contains(err.Error(), "open.token can be read by others: make it private (chmod 600") {
		t.Errorf("%v", err)
	}
	nobody := openWith(t, farsock.Config{}, "unix:/nowhere/agent.sock")
	_, err = nobody.Listen("tcp", "127.0.0.1:0")
	if !errors.As(err, &refused) || refused.Code != codes.Unavailable || !strings.Contains(err.Error(), "unix:/nowhere/agent.sock") {
		t.Errorf("%v", err)
	}
}

func TestInventory(t *testing.T) {
	directory := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := must(os.ReadFile(shared.TokenFile()))(t)
	_ = write("lab-b.token", string(token))
	lab := write("lab.yaml", "hosts:\n  lab-a: "+shared.Endpoint()+"\n  lab-b: {agent: \""+shared.TCPEndpoint()+"\", token_file: lab-b.token}\n"+
		"  lab-c: {agent: \""+shared.TCPEndpoint()+"\", token_env: LAB_C, labels: {site: madrid}, groups: [web], addresses: {front: 192.0.2.1}}\n"+
		"  lab-d: {agent: \"ssh://lab-d\", program: /opt/farsock}\n  lab-e.example:\n")
	_, err := (&farsock.Config{Inventory: lab}).Open("lab-c")
	if err == nil || !strings.Contains(err.Error(), "there is no variable LAB_C") {
		t.Errorf("%v", err)
	}
	t.Setenv("LAB_C", strings.TrimSpace(string(token)))
	for _, name := range []string{"lab-a", "lab-b", "lab-c", shared.Endpoint()} {
		hello(t, openWith(t, farsock.Config{Inventory: lab}, name))
	}
	if named, err := (&farsock.Config{Inventory: lab}).Open("lab-e.example"); err != nil || named.Endpoint() != "lab-e.example:7625" {
		t.Errorf("%v, %v", named, err)
	}
	if _, err := (&farsock.Config{Inventory: lab}).Open("lab-d"); err == nil || !strings.Contains(err.Error(), "only farsock run goes by ssh") {
		t.Errorf("%v", err)
	}
	t.Setenv("FARSOCK_INVENTORY", lab)
	hello(t, openWith(t, farsock.Config{}, "lab-a"))

	for text, want := range map[string]string{
		"hosts: {lab-a: \"7625\"}":               `there is no host "lab-z" in`,
		"hosts: {lab-z: {agent: x, tokn: y}}":    `there is no "tokn"`,
		"hosts: {lab-z: \"x:99999\"}":            "is no endpoint",
		"machines: {}":                           "machines",
		"{}":                                     "`hosts:` is needed",
		"hosts: {lab-z: {agent: \"x:1\", agent:": "",
	} {
		file := write("wrong.yaml", text)
		_, err := (&farsock.Config{Inventory: file}).Open("lab-z")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestEndpointsAreWrittenAsPeopleDo(t *testing.T) {
	t.Setenv("FARSOCK_INVENTORY", "")
	for text, want := range map[string]string{
		"lab-a": "lab-a:7625", "lab-a:80": "lab-a:80", "7626": "127.0.0.1:7626", ":7626": "127.0.0.1:7626", "::1": "[::1]:7625",
		"[::1]:80": "[::1]:80", "10.0.0.1": "10.0.0.1:7625", "unix:/a": "unix:/a",
		"": "", "a:b": "", "unix:": "", "a:0": "", "a:70000": "", "a b": "", "::1:x": "", "http://a": "",
	} {
		host, err := farsock.Open(text)
		if want == "" {
			if err == nil {
				t.Errorf("%q is no endpoint", text)
			}
			continue
		}
		if err != nil || host.Endpoint() != want {
			t.Errorf("%q: %v, %v", text, host, err)
		}
		_ = host.Close()
	}
}

func TestEachHostHasASessionOfItsOwn(t *testing.T) {
	one, two := shared.Host(t), shared.Host(t)
	sessions := map[string]bool{}
	for _, host := range []*farsock.Host{one, two} {
		sessions[must(host.SessionID(within(t)))(t)] = true
	}
	if len(sessions) != 2 || sessions[""] {
		t.Errorf("%v", sessions)
	}
	far, near := line(t, one, "127.0.0.1:0")
	id := must(one.SessionID(within(t)))(t)
	listener := door(t, one, "127.0.0.1:0")
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	// Everything of it is gone, and whoever waits is told.
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := one.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	_, err := two.API.Sessions.GetSession(within(t), &farsockpb.GetSessionRequest{SessionId: id})
	if err == nil {
		t.Error("the session is still there")
	}
}

func TestADefaultSessionStays(t *testing.T) {
	host := openWith(t, farsock.Config{Session: "default"}, shared.Endpoint())
	hello(t, host)
	conn := must(host.ListenPacket("udp", "127.0.0.1:0"))(t)
	_ = must(conn.WriteTo([]byte("hola"), conn.LocalAddr()))(t)
	if size, _, err := conn.ReadFrom(make([]byte, 10)); err != nil || size != 4 {
		t.Errorf("%d, %v", size, err)
	}
	_ = conn.Close()
	if id := must(host.SessionID(within(t)))(t); id != "" {
		t.Errorf("%q", id)
	}
}

func TestTheLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	host := openWith(t, farsock.Config{LeaseTTL: 5 * time.Second}, shared.Endpoint())
	id := must(host.SessionID(within(t)))(t)
	left := 5 * time.Second
	for {
		answer := must(host.API.Sessions.GetSession(within(t), &farsockpb.GetSessionRequest{SessionId: id}))(t)
		now := answer.GetSession().GetLeaseLeft().AsDuration()
		if now > left {
			break
		}
		left = now
		// A session in which nothing happens says so a little later.
		_ = must(host.API.Events.WaitEvent(within(t), &farsockpb.WaitEventRequest{
			SessionId: id, Timeout: durationpb.New(100 * time.Millisecond),
		}))(t)
	}
}

func TestASessionThatIsGoneIsMadeAnew(t *testing.T) {
	host := shared.Host(t)
	id := must(host.SessionID(within(t)))(t)
	_ = must(host.API.Sessions.DeleteSession(within(t), &farsockpb.DeleteSessionRequest{SessionId: id}))(t)
	hello(t, host)
	if now := must(host.SessionID(within(t)))(t); now == id {
		t.Errorf("%s is gone", id)
	}
}

// What was open is gone, whoever waits is told, and what comes next is done in a new session.
func TestAnAgentThatWasRestarted(t *testing.T) {
	agent := farsocktest.New(t)
	host := agent.Host(t)
	far, near := line(t, host, "127.0.0.1:0")
	listener, packets := door(t, host, "127.0.0.1:0"), mailbox(t, host, "127.0.0.1:0")
	watch := must((&farsock.WatchConfig{Host: host}).Watch(within(t)))(t)
	errs := make(chan error, 3)
	go func() { errs <- drop(far.Read(make([]byte, 1))) }()
	go func() { errs <- drop(listener.Accept()) }()
	go func() { errs <- drop(packets.Read(make([]byte, 1))) }()
	if err := agent.Restart(); err != nil {
		t.Fatal(err)
	}
	for range cap(errs) {
		var refused *farsock.AgentError
		if err := <-errs; !errors.As(err, &refused) || errors.As(err, new(syscall.Errno)) {
			t.Errorf("%v", err)
		}
	}
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	_, _, _ = far.Close(), listener.Close(), packets.Close()
	hello(t, host)
	for {
		item, err := watch.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if item.Restarted != "" {
			if item.Restarted != agent.InstanceID() {
				t.Errorf("%s", item.Restarted)
			}
			break
		}
	}
	if item, err := watch.Next(within(t)); err != nil || item.Event.GetEventSeq() != 1 {
		t.Errorf("numbers begin anew: %v, %v", item, err)
	}
}

func drop[T any](_ T, err error) error { return err }

// oldAgent is one that knows less than this package needs.
type oldAgent struct{ farsockpb.AgentServiceClient }

func (oldAgent) GetAgent(context.Context, *farsockpb.GetAgentRequest, ...grpc.CallOption) (*farsockpb.GetAgentResponse, error) {
	agent := &farsockpb.Agent{Version: "0.0.9", Capabilities: []string{"tcp", "ipv4", "leases"}}
	return &farsockpb.GetAgentResponse{Agent: agent}, nil
}

func TestAnAgentThatIsTooOldIsNotUsed(t *testing.T) {
	host := openWith(t, farsock.Config{TokenFile: shared.TokenFile()}, shared.TCPEndpoint())
	host.API.Agent = oldAgent{}
	_, err := host.SessionID(t.Context())
	var refused *farsock.AgentError
	if !errors.As(err, &refused) || refused.Code != codes.Unimplemented || !strings.Contains(refused.Message, "farsock 0.0.9, which lacks `transfer`") {
		t.Errorf("%v", err)
	}
}
