package transfer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var kinds = map[string]Kind{
	"open": Open, "opened": Opened, "data": Data, "window": Window, "end": End, "abort": Abort, "close": Abort, "error": Error, "closed": Closed,
}

var sides = map[string]Side{"client": Client, "agent": Agent}

type vector struct {
	At     []string
	Frames []struct {
		From, Frame string
		Size        uint64
		Mistake     Mistake
		Dropped     bool
	}
	End struct {
		ToAgent     uint64 `json:"to_agent"`
		ToClient    uint64 `json:"to_client"`
		ClientEnded bool   `json:"client_ended"`
		AgentEnded  bool   `json:"agent_ended"`
		Aborted     bool
		Closed      bool
	}
}

// The sequences that every client replays, from both ends.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("../../../vectors/transfer/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no vectors: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var sequence vector
		if err := json.Unmarshal(text, &sequence); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, at := range sequence.At {
			t.Run(filepath.Base(file)+"/"+at, func(t *testing.T) { replay(t, sides[at], sequence) })
		}
	}
}

func replay(t *testing.T, at Side, sequence vector) {
	machine := New(at)
	for number, step := range sequence.Frames {
		kind, known := kinds[step.Frame]
		if !known {
			t.Fatalf("frame %d: %s is not known here", number, step.Frame)
		}
		frame, before := Frame{Kind: kind, Size: step.Size}, *machine
		verdict, err := Take, error(nil)
		if sides[step.From] == at {
			err = machine.Send(frame)
		} else {
			verdict, err = machine.Receive(frame)
		}
		var mistake Mistake
		errors.As(err, &mistake)
		if mistake != step.Mistake || (verdict == Drop) != step.Dropped {
			t.Fatalf("frame %d, %s of the %s: mistake %q, verdict %v", number, step.Frame, step.From, mistake, verdict)
		}
		if err != nil && *machine != before {
			t.Fatalf("frame %d: a mistake has changed something", number)
		}
	}
	end := sequence.End
	left := []uint64{machine.Credit(Client), machine.Credit(Agent)}
	if !slices.Equal(left, []uint64{end.ToAgent, end.ToClient}) {
		t.Errorf("credit left: %v", left)
	}
	is := []bool{machine.HasEnded(Client), machine.HasEnded(Agent), machine.IsAborted(), machine.IsClosed()}
	if !slices.Equal(is, []bool{end.ClientEnded, end.AgentEnded, end.Aborted, end.Closed}) {
		t.Errorf("at the end: %v", is)
	}
}
