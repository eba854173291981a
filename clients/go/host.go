package farsock

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// Config says how an agent is found. The zero value finds those of this user on this host, and those of the inventory.
type Config struct {
	// Token is the agent's token. Empty: it is read from a file.
	Token string
	// TokenFile has the agent's token, and nobody else may read it. Empty: FARSOCK_TOKEN_FILE, or the file of an agent of this user on this host.
	TokenFile string
	// TLSCert is the file of a certificate that an agent by TCP is shown, as `farsock pki` makes it. Empty: FARSOCK_TLS_CERT, unless there is a
	// token or a file for it; without either, TLS is not spoken.
	TLSCert string
	// TLSKey has the certificate's key, which nobody else may read. Empty: FARSOCK_TLS_KEY, or the file beside TLSCert that ends with .key.
	TLSKey string
	// TLSCA has the CA that signs the agents' certificates. Empty: FARSOCK_TLS_CA, or ca.pem beside TLSCert.
	TLSCA string
	// Inventory is the file that gives names to agents. Empty: FARSOCK_INVENTORY, or none.
	Inventory string
	// Session names a session that is there already and stays, such as "default". Empty: the host works in a session of its own, which
	// ends with it.
	Session string
	// LeaseTTL is how soon the agent closes everything of the host's session after this program has died, hangs, or is cut off: 5 s to 1 h.
	// It is renewed three times within it. Zero: the agent's default.
	LeaseTTL time.Duration
}

// Open is Open of the zero Config.
func Open(name string) (*Host, error) { return new(Config).Open(name) }

// Open finds an agent by its name in the inventory, or by its endpoint: "lab-a", "lab-a:7625", "7625", "unix:/run/agent.sock". Nothing is
// sent until something is asked for.
func (c *Config) Open(name string) (*Host, error) {
	endpoint, err := c.find(name)
	if err != nil {
		return nil, err
	}
	pool, err := newPool(endpoint)
	if err != nil {
		return nil, err
	}
	host := &Host{name: name, endpoint: endpoint, pool: pool, named: c.Session, lease: c.LeaseTTL, making: make(chan struct{}, 1), feeding: make(chan struct{}, 1)}
	host.ctx, host.cancel = context.WithCancel(context.Background())
	host.closers = make(map[closer]struct{})
	host.API = API{
		Agent:    farsockpb.NewAgentServiceClient(pool.calls),
		Sessions: farsockpb.NewSessionServiceClient(pool.calls),
		Sockets:  farsockpb.NewSocketServiceClient(pool.calls),
		Events:   farsockpb.NewEventServiceClient(pool.events),
	}
	return host, nil
}

// API is the whole API of an agent.
type API struct {
	Agent    farsockpb.AgentServiceClient
	Sessions farsockpb.SessionServiceClient
	Sockets  farsockpb.SocketServiceClient
	Events   farsockpb.EventServiceClient
}

// Host is a machine with an agent. All of its methods may be used by several goroutines at once.
//
// It works in a session of its own on the agent, which is made when it is first needed and whose lease it renews. When the agent was
// restarted, what was open is gone, and what is asked for next is done in a new one.
type Host struct {
	// API is everything that the agent can do, for what this package has no words for. Requests that name no session work in the caller's
	// default session: SessionID is what they need.
	API API

	name     string
	endpoint *endpoint
	pool     *pool
	named    string
	lease    time.Duration
	// ctx ends when the host is closed. All that runs by itself is in running.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	// making is held by who looks at the session or makes it.
	making  chan struct{}
	session *session

	mu      sync.Mutex
	closed  bool
	closers map[closer]struct{}
	calls   uint64
	// feeding is held by who looks at the feed or makes it.
	feeding chan struct{}
	feed    *feed
}

// closer is a socket that may still be under way to its end.
type closer interface{ waitClosed(context.Context) }

const (
	// answerTimeout is how long an answer of the agent's may take that waits for nothing there.
	answerTimeout = 30 * time.Second
	// closePatience is how long closing a host waits for connections whose peers do not take the rest of what was written.
	closePatience = 5 * time.Second
)

// Name is what the host was opened by.
func (h *Host) Name() string { return h.name }

// Endpoint is where its agent is reached.
func (h *Host) Endpoint() string { return h.endpoint.String() }

// Conn is a connection to the agent, for stubs of other services than those of API.
func (h *Host) Conn() grpc.ClientConnInterface { return h.pool.calls }

// Close closes every socket of the host, and then the connections to its agent. Connections that were closed before have 5 s to hand over the
// rest of what was written to them.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return net.ErrClosed
	}
	h.closed = true
	leaving := make([]closer, 0, len(h.closers))
	for each := range h.closers {
		leaving = append(leaving, each)
	}
	h.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	for _, each := range leaving {
		each.waitClosed(ctx)
	}
	h.making <- struct{}{}
	err := h.deleteSession()
	<-h.making
	h.cancel()
	h.pool.close()
	h.running.Wait()
	return err
}

// run lets something run until the host is closed. False: it is closed.
func (h *Host) run(work func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.running.Go(work)
	return true
}

// requestID makes a name for an operation.
func (h *Host) requestID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	return requestPrefix + formatUint(h.calls)
}

func (h *Host) errClosed() error {
	return h.broken(codes.Canceled, reasonSocketClosed, "this host was closed")
}
