package farsock

import (
	"context"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// readCredit is how many bytes an agent may send on a stream that nobody has read.
	readCredit = 512 << 10
	// laneStreams is how many streams share a connection. What all of them have granted together stays below the connection's window, so
	// that one that nobody reads never holds up the others.
	laneStreams = 100
	// laneWindow is the HTTP/2 window of a connection that carries bytes.
	laneWindow = 64 << 20
	// dialTimeout is how long reaching an agent may take.
	dialTimeout = 10 * time.Second
	// pingInterval and pingTimeout are how soon an agent is noticed that has gone without a word.
	pingInterval = 10 * time.Second
	pingTimeout  = 5 * time.Second
)

// pool has the connections to one agent: one for calls, one for events, and others for bytes, so that a flood of either holds up no call.
// Each is made when it is first used.
type pool struct {
	endpoint *endpoint
	token    atomic.Value
	calls    *grpc.ClientConn
	events   *grpc.ClientConn

	mu    sync.Mutex
	lanes []*lane
}

// lane is a connection that carries bytes.
type lane struct {
	conn    *grpc.ClientConn
	streams int
}

func newPool(endpoint *endpoint) (*pool, error) {
	p := &pool{endpoint: endpoint}
	p.token.Store("")
	var err error
	if p.calls, err = p.connection(4 << 20); err != nil {
		return nil, err
	}
	p.events, err = p.connection(8 << 20)
	return p, err
}

func (p *pool) connection(window int32) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+p.endpoint.address,
		grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(p.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(bearer{p}),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithInitialWindowSize(window/4),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: dialTimeout,
		}),
	)
}

func (p *pool) dial(ctx context.Context, _ string) (net.Conn, error) {
	token, err := p.endpoint.token()
	if err != nil {
		return nil, err
	}
	p.token.Store(token)
	return p.endpoint.dial(ctx)
}

// reserve answers a connection that has a place for one stream more. It is given back by release.
func (p *pool) reserve() (*lane, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, lane := range p.lanes {
		if lane.streams < laneStreams {
			lane.streams++
			return lane, nil
		}
	}
	conn, err := p.connection(laneWindow)
	if err != nil {
		return nil, err
	}
	made := &lane{conn: conn, streams: 1}
	p.lanes = append(p.lanes, made)
	return made, nil
}

// release gives a place back. Of connections that have no streams any more one is kept.
func (p *pool) release(left *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left.streams--
	if left.streams == 0 && len(p.lanes) > 1 {
		p.lanes = slices.DeleteFunc(p.lanes, func(lane *lane) bool { return lane == left })
		left.conn.Close()
	}
}

func (p *pool) close() {
	p.calls.Close()
	p.events.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, lane := range p.lanes {
		lane.conn.Close()
	}
	p.lanes = nil
}

// bearer shows the token.
type bearer struct{ pool *pool }

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, _ := b.pool.token.Load().(string)
	if token == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is false: a token is for an agent on this host, or at the end of an ssh tunnel. TLS needs none.
func (bearer) RequireTransportSecurity() bool { return false }
