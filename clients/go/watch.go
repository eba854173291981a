package farsock

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

const (
	// watchPause and watchPauseMax are how long a watch waits before it comes back: twice as long each time.
	watchPause    = 50 * time.Millisecond
	watchPauseMax = 2 * time.Second
)

// WatchConfig says what is watched.
type WatchConfig struct {
	// Host is whose session is watched.
	Host *Host
	// SessionID names another session than the host's own.
	SessionID string
	// After is the number of the last event that was seen, of the life of the agent that InstanceID names. Nil: begin with the oldest event
	// that is kept.
	After      *uint64
	InstanceID string
	// FromNow begins with what happens from now on.
	FromNow bool
	// Filter says which events. Nil: all.
	Filter *farsockpb.EventFilter
	// View is the form in which payloads are shown. Nil: the bytes.
	View *farsockpb.PayloadView
}

// WatchItem is what a watch brings: exactly one of its fields is set.
type WatchItem struct {
	// Event has happened.
	Event *farsockpb.Event
	// Gap is events that are missing, because they are not kept any more. The watch goes on after them.
	Gap *farsockpb.EventGap
	// Restarted is the agent's new instance: it was restarted, what was open is gone, and numbers begin anew.
	Restarted string
}

// Watch reads the events of a session, in their order. When the connection to the agent is lost it comes back by itself and goes on where it was.
// Nothing is fetched far ahead of who reads.
type Watch struct {
	config WatchConfig
	cancel context.CancelFunc
	items  chan WatchItem
	opened chan struct{}
	once   sync.Once
	done   chan struct{}
	err    error

	// session is the one that was read last.
	session string

	mu       sync.Mutex
	after    *uint64
	instance string
}

// Watch reads what happens in the host's session from now on.
func (h *Host) Watch(ctx context.Context) (*Watch, error) {
	return (&WatchConfig{Host: h, FromNow: true}).Watch(ctx)
}

// Watch begins. When it answers, what is done afterwards will be in the watch. The end of ctx ends only the beginning: Close ends the watch.
func (c *WatchConfig) Watch(ctx context.Context) (*Watch, error) {
	w := &Watch{
		config: *c, after: c.After, instance: c.InstanceID,
		items: make(chan WatchItem), opened: make(chan struct{}), done: make(chan struct{}),
	}
	own, cancel := context.WithCancel(c.Host.ctx)
	w.cancel = cancel
	if !c.Host.run(func() { w.run(own) }) {
		cancel()
		return nil, c.Host.errClosed()
	}
	select {
	case <-w.opened:
		return w, nil
	case <-w.done:
		return nil, w.err
	case <-ctx.Done():
		w.Close()
		return nil, ended(ctx)
	}
}

// Next waits for the next item. After Close, and when the session was deleted, it answers net.ErrClosed.
func (w *Watch) Next(ctx context.Context) (WatchItem, error) {
	select {
	case item := <-w.items:
		return item, nil
	case <-w.done:
		return WatchItem{}, w.err
	case <-ctx.Done():
		return WatchItem{}, ended(ctx)
	}
}

// Items are all items until ctx or the watch ends. Only the last one has an error, unless the watch was closed.
func (w *Watch) Items(ctx context.Context) iter.Seq2[WatchItem, error] {
	return func(yield func(WatchItem, error) bool) {
		for {
			item, err := w.Next(ctx)
			if errors.Is(err, errClosed) {
				return
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Position is what another watch goes on from: the agent's instance, and the number up to which everything was read. Nil: nothing was.
func (w *Watch) Position() (instanceID string, after *uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.instance, w.after
}

// Close ends the watch.
func (w *Watch) Close() {
	w.cancel()
	<-w.done
}

func (w *Watch) run(ctx context.Context) {
	defer close(w.done)
	defer w.cancel()
	pause := watchPause
	for {
		opened, err := w.follow(ctx)
		if ctx.Err() != nil {
			w.err = errClosed
			return
		}
		if opened {
			pause = watchPause
		}
		if w.err = w.lost(err); w.err != nil {
			return
		}
		select {
		case <-ctx.Done():
			w.err = errClosed
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, watchPauseMax)
	}
}

// lost says whether it is worth coming back: nil, or why not.
func (w *Watch) lost(err error) error {
	var refused *AgentError
	if !errors.As(err, &refused) {
		// In good order: the agent stops, or the session was deleted, which coming back will tell.
		return nil
	}
	again := sessionGone(err) && w.config.SessionID == "" && w.config.Host.named == ""
	switch {
	case refused.Reason == reasonInstanceChanged, refused.Reason == reasonFutureEvent, again:
		w.beginAnew()
		return nil
	case sessionGone(err) && w.hasOpened():
		return errClosed
	case refused.Code == codes.Unavailable, refused.Code == codes.Canceled && refused.Reason == "", refused.Code == codes.Internal:
		return nil
	}
	return err
}

// beginAnew forgets where it was: those numbers mean nothing any more.
func (w *Watch) beginAnew() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after, w.instance = nil, ""
}

func (w *Watch) hasOpened() bool {
	select {
	case <-w.opened:
		return true
	default:
		return false
	}
}

// follow reads one stream to its end.
func (w *Watch) follow(ctx context.Context) (opened bool, err error) {
	host := w.config.Host
	read := func(id string) error {
		opened, err = w.read(ctx, id)
		return err
	}
	if w.config.SessionID != "" {
		return opened, read(w.config.SessionID)
	}
	err = host.inSession(ctx, func(session *session) error { return read(session.id) })
	return opened, err
}

func (w *Watch) read(ctx context.Context, session string) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if w.session != "" && w.session != session {
		w.beginAnew()
	}
	w.session = session
	config := &w.config
	view := config.View
	if view == nil {
		view = &farsockpb.PayloadView{Form: farsockpb.PayloadForm_PAYLOAD_FORM_DATA}
	}
	request := &farsockpb.WatchEventsRequest{
		SessionId: session, Filter: config.Filter, View: view, InstanceId: w.instance, AfterEventSeq: w.after,
		FromNow: config.FromNow && !w.hasOpened(),
	}
	frames, err := config.Host.API.Events.WatchEvents(ctx, request)
	for err == nil {
		var answer *farsockpb.WatchEventsResponse
		if answer, err = frames.Recv(); err != nil {
			break
		}
		opened = true
		if !w.take(ctx, answer) {
			return opened, ctx.Err()
		}
	}
	return opened, config.Host.agentError(err)
}

// take hands on what a frame has. False: nobody wants it any more.
func (w *Watch) take(ctx context.Context, answer *farsockpb.WatchEventsResponse) bool {
	switch got := answer.GetFrame().(type) {
	case *farsockpb.WatchEventsResponse_Opened:
		return w.begin(ctx, got.Opened)
	case *farsockpb.WatchEventsResponse_Batch:
		for _, event := range got.Batch.GetEvents() {
			if !w.put(ctx, WatchItem{Event: event}, event.GetEventSeq()) {
				return false
			}
		}
		w.advance(got.Batch.GetThroughSeq())
	case *farsockpb.WatchEventsResponse_Gap:
		return w.put(ctx, WatchItem{Gap: got.Gap}, got.Gap.GetLastSeq())
	}
	return true
}

func (w *Watch) begin(ctx context.Context, opened *farsockpb.WatchOpened) bool {
	again := w.hasOpened()
	w.mu.Lock()
	before := w.instance
	w.instance = opened.GetInstanceId()
	if w.config.FromNow && !again {
		head := opened.GetHeadSeq()
		w.after = &head
	}
	w.mu.Unlock()
	w.once.Do(func() { close(w.opened) })
	if again && before == "" {
		return w.put(ctx, WatchItem{Restarted: opened.GetInstanceId()}, 0)
	}
	return true
}

func (w *Watch) put(ctx context.Context, item WatchItem, seq uint64) bool {
	select {
	case w.items <- item:
		if seq > 0 {
			w.advance(seq)
		}
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *Watch) advance(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after = &seq
}
