package farsock

import (
	"sync"
	"time"
)

// deadline is when somebody who waits does not wait any more: for a condition, whose lock guards it, or for a channel.
type deadline struct {
	cond    *sync.Cond
	timer   *time.Timer
	expired bool
	// reached is closed when it is over.
	reached chan struct{}
}

func (d *deadline) init(cond *sync.Cond) {
	d.cond = cond
	d.reached = make(chan struct{})
}

// set changes it, also for those who wait. The zero time: never.
func (d *deadline) set(at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.expired {
		d.expired = false
		d.reached = make(chan struct{})
	}
	if at.IsZero() {
		return
	}
	left := time.Until(at)
	if left <= 0 {
		d.expire()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		d.cond.L.Lock()
		defer d.cond.L.Unlock()
		// One that was stopped too late has nothing to say any more.
		if d.timer == timer {
			d.expire()
		}
	})
	d.timer = timer
}

func (d *deadline) expire() {
	d.expired = true
	close(d.reached)
	d.cond.Broadcast()
}
