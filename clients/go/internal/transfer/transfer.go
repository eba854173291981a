// Package transfer knows what the two ends of a TransferSocket stream may send, and when.
//
// One [Transfer] is what one end knows: it is told each frame that this end sends and each that arrives, in the order in which that happens
// here. It holds no bytes, only their number, and does nothing by itself. The rules stand in proto/farsock/v1/transfer.proto, and the
// sequences in clients/vectors/transfer hold it to them.
package transfer

// DataSize is how many bytes a data frame may have.
const DataSize = 256 << 10

// maxCredit is how many bytes one end may grant the other in all: what every language can count.
const maxCredit = 1<<53 - 1

// Side is one of the two ends of a stream.
type Side int

// The ends.
const (
	// Client is who called.
	Client Side = iota
	// Agent is who has the socket.
	Agent
)

// Kind is what a frame says.
type Kind int

// The kinds of frames.
const (
	// Open: the client asks for a connection.
	Open Kind = iota
	// Opened: the connection is there.
	Opened
	// Data: bytes.
	Data
	// Window: the other end may send more.
	Window
	// End: no more bytes come from this end.
	End
	// Abort: the client is done with the connection, which is to be reset, or closed in good order.
	Abort
	// Error: the kernel has objected.
	Error
	// Closed: the socket is gone.
	Closed
)

// Frame is a frame without its bytes.
type Frame struct {
	Kind Kind
	// Size is how many bytes Data has, and how many Window and Opened grant.
	Size uint64
}

// Verdict is what is to be done with a frame that is in order.
type Verdict int

// The verdicts.
const (
	// Take: what it says.
	Take Verdict = iota
	// Drop: nothing, it has crossed one that makes it pointless.
	Drop
)

// Mistake is why a frame must not be sent. It is the name that the vectors have for it.
type Mistake string

// The mistakes.
const (
	// WrongSide: only the other end sends this frame.
	WrongSide Mistake = "WRONG_SIDE"
	// NotOpen: the first frame must open the stream.
	NotOpen Mistake = "NOT_OPEN"
	// OpenTwice: the stream is open already.
	OpenTwice Mistake = "OPEN_TWICE"
	// NoData: a data frame needs a byte.
	NoData Mistake = "NO_DATA"
	// DataTooLarge: a frame has at most DataSize bytes.
	DataTooLarge Mistake = "DATA_TOO_LARGE"
	// NoCredit: more bytes than were granted.
	NoCredit Mistake = "NO_CREDIT"
	// AfterEnd: this end has ended already.
	AfterEnd Mistake = "AFTER_END"
	// NoWindow: a grant of nothing.
	NoWindow Mistake = "NO_WINDOW"
	// WindowTooLarge: more credit than can be counted.
	WindowTooLarge Mistake = "WINDOW_TOO_LARGE"
	// AfterAbort: the client was done with the connection before.
	AfterAbort Mistake = "AFTER_ABORT"
	// AfterError: the kernel takes no more bytes.
	AfterError Mistake = "AFTER_ERROR"
	// AfterClosed: the socket is gone.
	AfterClosed Mistake = "AFTER_CLOSED"
)

func (m Mistake) Error() string { return "a frame that must not come: " + string(m) }

// direction is one of the two.
type direction struct {
	granted, sent uint64
	ended         bool
}

func (d *direction) credit() uint64 { return d.granted - d.sent }

func (d *direction) grant(size uint64) error {
	switch {
	case size == 0:
		return NoWindow
	case size > maxCredit-d.granted:
		return WindowTooLarge
	}
	d.granted += size
	return nil
}

func (d *direction) data(size uint64) error {
	switch {
	case size == 0:
		return NoData
	case size > DataSize:
		return DataTooLarge
	case d.ended:
		return AfterEnd
	case size > d.credit():
		return NoCredit
	}
	d.sent += size
	return nil
}

func (d *direction) end() error {
	if d.ended {
		return AfterEnd
	}
	d.ended = true
	return nil
}

// Transfer is what one end of a stream knows.
type Transfer struct {
	side              Side
	asked, open       bool
	toAgent, toClient direction
	aborted, failed   bool
	closed            bool
}

// New makes the machine of one end, before anything was sent.
func New(side Side) *Transfer { return &Transfer{side: side} }

// Send is told of a frame of this end. After a mistake nothing has changed, and the frame must not be sent.
func (t *Transfer) Send(frame Frame) error {
	_, err := t.step(t.side, frame)
	return err
}

// Receive is told of a frame that has arrived. After a mistake the stream is to be ended.
func (t *Transfer) Receive(frame Frame) (Verdict, error) { return t.step(1-t.side, frame) }

// Credit is how many bytes a side may still send.
func (t *Transfer) Credit(from Side) uint64 {
	direction := t.direction(from)
	if t.closed || t.aborted || t.failed && from == Client || direction.ended {
		return 0
	}
	return direction.credit()
}

// HasEnded is whether a side has sent, or this one has got, its end.
func (t *Transfer) HasEnded(from Side) bool { return t.direction(from).ended }

// IsAborted is whether the client is done with the connection.
func (t *Transfer) IsAborted() bool { return t.aborted }

// IsClosed is whether the socket is gone.
func (t *Transfer) IsClosed() bool { return t.closed }

// HasFailed is whether the kernel takes no more bytes.
func (t *Transfer) HasFailed() bool { return t.failed }

func (t *Transfer) direction(from Side) *direction {
	if from == Client {
		return &t.toAgent
	}
	return &t.toClient
}

func (t *Transfer) step(from Side, frame Frame) (Verdict, error) {
	if from == Client {
		return t.stepOfClient(frame)
	}
	return t.stepOfAgent(frame)
}

func (t *Transfer) stepOfClient(frame Frame) (Verdict, error) {
	own := t.side == Client
	switch frame.Kind {
	case Opened, Error, Closed:
		return Take, WrongSide
	}
	switch {
	case t.aborted:
		return Take, AfterAbort
	case t.closed && own:
		return Take, AfterClosed
	case t.closed:
		return Drop, nil
	case frame.Kind == Open && t.asked:
		return Take, OpenTwice
	case frame.Kind != Open && !t.asked:
		return Take, NotOpen
	}
	switch frame.Kind {
	case Open:
		t.asked = true
	case Data:
		if t.failed && own {
			return Take, AfterError
		}
		if err := t.toAgent.data(frame.Size); err != nil {
			return Take, err
		}
		if t.failed {
			return Drop, nil
		}
	case Window:
		return Take, t.toClient.grant(frame.Size)
	case End:
		return Take, t.toAgent.end()
	case Abort:
		t.aborted = true
	}
	return Take, nil
}

func (t *Transfer) stepOfAgent(frame Frame) (Verdict, error) {
	own := t.side == Agent
	switch {
	case frame.Kind == Open || frame.Kind == Abort:
		return Take, WrongSide
	case t.closed:
		return Take, AfterClosed
	case frame.Kind == Opened && t.open:
		return Take, OpenTwice
	case frame.Kind == Opened && !t.asked, frame.Kind != Opened && !t.open:
		return Take, NotOpen
	}
	switch frame.Kind {
	case Opened:
		if frame.Size > 0 {
			if err := t.toAgent.grant(frame.Size); err != nil {
				return Take, err
			}
		}
		t.open = true
	case Data:
		if t.aborted && own {
			return Take, AfterAbort
		}
		if err := t.toClient.data(frame.Size); err != nil {
			return Take, err
		}
		if t.aborted {
			return Drop, nil
		}
	case Window:
		return Take, t.toAgent.grant(frame.Size)
	case End:
		return Take, t.toClient.end()
	case Error:
		t.failed = true
	case Closed:
		t.closed = true
	}
	return Take, nil
}
