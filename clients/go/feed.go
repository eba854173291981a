package farsock

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// feed is the one watch that all UDP sockets of a session share. It lasts as long as there are any.
type feed struct {
	host    *Host
	session string
	watch   *Watch

	mu   sync.Mutex
	subs map[string]subscriber
	lost error
}

// subscriber is told what happens to the socket of its name. It must not wait.
type subscriber interface {
	event(*farsockpb.Event)
	// gap says that events of the session are missing, perhaps some of its own.
	gap()
	// lost says that nothing more will come.
	lost(error)
}

// feedKinds are what sockets want to know.
var feedKinds = []string{"datagram_received", "failed", "closed"}

// subscribe tells somebody what happens to a socket from its very first event on. To be called before the socket is made.
func (h *Host) subscribe(ctx context.Context, session, socketID string, sub subscriber) (*feed, error) {
	h.feeding <- struct{}{}
	defer func() { <-h.feeding }()
	if f := h.feed; f != nil && f.session == session && f.add(socketID, sub) {
		return f, nil
	}
	id := session
	if id == "" {
		id = "default"
	}
	config := &WatchConfig{Host: h, SessionID: id, FromNow: true, Filter: &farsockpb.EventFilter{Kinds: feedKinds}}
	watch, err := config.Watch(ctx)
	if err != nil {
		return nil, err
	}
	f := &feed{host: h, session: session, watch: watch, subs: map[string]subscriber{socketID: sub}}
	if !h.run(f.run) {
		watch.Close()
		return nil, h.errClosed()
	}
	h.feed = f
	return f, nil
}

// add is false when the feed is over.
func (f *feed) add(socketID string, sub subscriber) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost == nil {
		f.subs[socketID] = sub
	}
	return f.lost == nil
}

// remove ends the feed with its last subscriber.
func (f *feed) remove(socketID string, sub subscriber) {
	f.mu.Lock()
	if f.subs[socketID] == sub {
		delete(f.subs, socketID)
	}
	idle := len(f.subs) == 0 && f.lost == nil
	if idle {
		f.lost = errClosed
	}
	f.mu.Unlock()
	if idle {
		f.watch.Close()
	}
}

func (f *feed) run() {
	end := f.host.broken(codes.Aborted, reasonSocketClosed, "the agent was restarted, or has ended the session of this socket")
	for item, err := range f.watch.Items(context.Background()) {
		if err != nil {
			end = err
		}
		if err != nil || item.Restarted != "" {
			break
		}
		if item.Gap != nil {
			f.each(subscriber.gap)
			continue
		}
		f.mu.Lock()
		sub := f.subs[item.Event.GetSocketId()]
		f.mu.Unlock()
		if sub != nil {
			sub.event(item.Event)
		}
	}
	f.mu.Lock()
	f.lost = end
	f.mu.Unlock()
	f.each(func(sub subscriber) { sub.lost(end) })
	f.watch.Close()
}

func (f *feed) each(tell func(subscriber)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sub := range f.subs {
		tell(sub)
	}
}
