package farsock_test

import (
	"context"
	"errors"
	"net"
	"testing"

	farsock "github.com/farsock/farsock/clients/go"
	"github.com/farsock/farsock/clients/go/farsockpb"
	"github.com/farsock/farsock/clients/go/farsocktest"
)

func TestWhatHappensAfterAWatchHasBegunIsInIt(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		hello(t, host)
		watch := must(host.Watch(within(t)))(t)
		defer watch.Close()
		listener := door(t, host, anyPort)
		var kinds []string
		last := uint64(0)
		for item, err := range watch.Items(within(t)) {
			if err != nil {
				t.Fatal(err)
			}
			if seq := item.Event.GetEventSeq(); last != 0 && seq != last+1 {
				t.Errorf("%d after %d", seq, last)
			}
			last = item.Event.GetEventSeq()
			if item.Event.GetSocketId() == listener.SocketID() {
				kinds = append(kinds, item.Event.GetKind())
			}
			if item.Event.GetKind() == "listening" {
				break
			}
		}
		if kinds[0] != "created" || kinds[len(kinds)-2] != "bound" {
			t.Errorf("%v", kinds)
		}
	})
}

// The number that was read last is where another watch goes on, and where the same one does after its connection was lost.
func TestAWatchGoesOnWhereItWas(t *testing.T) {
	host := shared.Host(t)
	hello(t, host)
	first := must((&farsock.WatchConfig{Host: host}).Watch(within(t)))(t)
	for want := range uint64(3) {
		if item, err := first.Next(within(t)); err != nil || item.Event.GetEventSeq() != want+1 {
			t.Fatalf("%v, %v", item, err)
		}
	}
	first.Close()
	if _, err := first.Next(within(t)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	instance, after := first.Position()
	second := must((&farsock.WatchConfig{Host: host, InstanceID: instance, After: after}).Watch(within(t)))(t)
	defer second.Close()
	if item, err := second.Next(within(t)); err != nil || item.Event.GetEventSeq() != 4 {
		t.Errorf("%v, %v", item, err)
	}
}

// What is not kept any more is a gap, and not a silence.
func TestEventsThatAreMissingAreAGap(t *testing.T) {
	agent := farsocktest.New(t, "--limit", "log_events=8", "--limit", "log_final_events=0")
	host := agent.Host(t)
	for range 5 {
		hello(t, host)
	}
	after := uint64(2)
	watch := must((&farsock.WatchConfig{Host: host, After: &after}).Watch(within(t)))(t)
	defer watch.Close()
	item := must(watch.Next(within(t)))(t)
	if item.Gap.GetFirstSeq() != 3 {
		t.Fatalf("%v", item)
	}
	if next := must(watch.Next(within(t)))(t); next.Event.GetEventSeq() != item.Gap.GetLastSeq()+1 {
		t.Errorf("%v after %v", next, item)
	}
}

func TestAWatchThatCannotBeginSaysWhy(t *testing.T) {
	host := shared.Host(t)
	_, err := (&farsock.WatchConfig{Host: host, SessionID: "no-such-session"}).Watch(within(t))
	var refused *farsock.AgentError
	if !errors.As(err, &refused) || refused.Reason != "SESSION_NOT_FOUND" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	watch := must((&farsock.WatchConfig{Host: host, Filter: &farsockpb.EventFilter{Kinds: []string{"aborted"}}}).Watch(within(t)))(t)
	defer watch.Close()
	cancel()
	if _, err := watch.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
