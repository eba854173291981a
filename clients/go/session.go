package farsock

import (
	"context"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

const (
	// requestPrefix begins the names of this package's operations.
	requestPrefix = "go-"
	// renewPause is how soon a renewal is tried again that has failed.
	renewPause = 200 * time.Millisecond
)

func formatUint(number uint64) string { return strconv.FormatUint(number, 10) }

// session is what a host owns on its agent.
type session struct {
	id string
}

// SessionID is the name of the host's session on its agent, which is made if there is none.
func (h *Host) SessionID(ctx context.Context) (string, error) {
	session, err := h.open(ctx)
	if err != nil {
		return "", err
	}
	return session.id, nil
}

// open answers the session, and makes it if there is none.
func (h *Host) open(ctx context.Context) (*session, error) {
	select {
	case h.making <- struct{}{}:
		defer func() { <-h.making }()
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	if h.session != nil {
		return h.session, nil
	}
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return nil, h.errClosed()
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	made, err := h.makeSession(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ended(ctx)
		}
		return nil, h.agentError(err)
	}
	h.session = made
	return made, nil
}

func (h *Host) makeSession(ctx context.Context) (*session, error) {
	if h.named == "default" {
		return new(session), nil
	}
	if h.named != "" {
		return &session{id: h.named}, nil
	}
	agent, err := h.API.Agent.GetAgent(ctx, new(farsockpb.GetAgentRequest))
	if err != nil {
		return nil, err
	}
	if err = checkCapabilities(agent.GetAgent()); err != nil {
		return nil, err
	}
	// As in a kernel, datagrams that nobody reads in time make room for others: nothing waits for a program that does not read.
	request := &farsockpb.CreateSessionRequest{Retention: farsockpb.Retention_RETENTION_RING}
	if h.lease > 0 {
		request.LeaseTtl = durationpb.New(h.lease)
	}
	sent := time.Now()
	answer, err := h.API.Sessions.CreateSession(ctx, request)
	if err != nil {
		return nil, err
	}
	made := &session{id: answer.GetSession().GetSessionId()}
	ttl := answer.GetSession().GetLeaseTtl().AsDuration()
	if ttl == 0 {
		return made, nil
	}
	if !h.run(func() { h.renew(made, ttl, sent) }) {
		return nil, h.errClosed()
	}
	return made, nil
}

// needed is what this package relies on, and an agent that is too old leaves out of a request without a word.
var needed = []struct{ capability, purpose string }{
	{"leases", "sessions that end with their program"},
	{"transfer", "connections as byte streams"},
}

// checkCapabilities makes sure that an agent has all of that.
func checkCapabilities(agent *farsockpb.Agent) error {
	for _, one := range needed {
		if !slices.Contains(agent.GetCapabilities(), one.capability) {
			return status.Errorf(codes.Unimplemented, "it is farsock %s, which lacks `%s` (%s): install a newer one there",
				agent.GetVersion(), one.capability, one.purpose)
		}
	}
	return nil
}

// renew keeps the lease of a session, which began no earlier than at a moment of this clock, until the host is closed. When a TTL has passed
// since the last renewal was sent that was answered, the session is not used any more.
func (h *Host) renew(session *session, ttl time.Duration, renewed time.Time) {
	pause := ttl / 3
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-time.After(pause):
		}
		sent := time.Now()
		ctx, cancel := context.WithTimeout(h.ctx, ttl/3)
		_, err := h.API.Sessions.RenewSession(ctx, &farsockpb.RenewSessionRequest{SessionId: session.id})
		cancel()
		if err == nil {
			renewed, pause = sent, ttl/3
			continue
		}
		if sessionGone(h.agentError(err)) || time.Since(renewed) > ttl {
			h.forget(session)
			return
		}
		pause = min(ttl/3, renewPause)
	}
}

// inSession does something in the session, and once more in a new one if the agent does not have it any more.
func (h *Host) inSession(ctx context.Context, act func(*session) error) error {
	session, err := h.open(ctx)
	if err != nil {
		return err
	}
	if err = act(session); !sessionGone(err) || h.named != "" {
		return err
	}
	h.forget(session)
	if session, err = h.open(ctx); err != nil {
		return err
	}
	return act(session)
}

// forget makes a new session the next time.
func (h *Host) forget(gone *session) {
	h.making <- struct{}{}
	if h.session == gone {
		h.session = nil
	}
	<-h.making
}

// deleteSession ends what the host has made. An agent that is gone has forgotten it as well.
func (h *Host) deleteSession() error {
	session := h.session
	h.session = nil
	if session == nil || h.named != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(h.ctx, closePatience)
	defer cancel()
	request := &farsockpb.DeleteSessionRequest{SessionId: session.id, AllowMissing: true}
	_, err := h.API.Sessions.DeleteSession(ctx, request)
	if refused, is := h.agentError(err).(*AgentError); is && !refused.lost() && !refused.Timeout() {
		return refused
	}
	return nil
}
