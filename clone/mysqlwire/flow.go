package mysqlwire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var errStopped = errors.New("another connection of the clone has failed")

// flow is what comes over one connection.
type flow struct {
	*Clone
	task  *task
	sink  Sink
	many  func() error // nil once it was called
	bytes uint64       // of the stage, about
	stage Stage
	block *Block // whose data come next
}

// take takes an answer to EXECUTE.
func (f *flow) take(kind byte, body []byte) error {
	switch kind {
	case answerDescriptor:
		return f.descriptor(body)
	case answerData:
		return f.data(body)
	}
	return fmt.Errorf("%w: the answer %d to EXECUTE", ErrProtocol, kind)
}

func (f *flow) descriptor(body []byte) error {
	if f.block != nil {
		return fmt.Errorf("%w: a block without its bytes", ErrProtocol)
	}
	if len(body) < 2 || body[0] != innoDB || body[1] != 0 {
		return fmt.Errorf("%w: a descriptor of no known storage engine", ErrProtocol)
	}
	d, err := parseDescriptor(body[2:])
	if err != nil {
		return err
	}
	switch d := d.(type) {
	case State:
		return f.state(d)
	case File:
		return f.sink.File(f.now(), d)
	case Block:
		if d.Length > 0 {
			f.block = &d
		}
		return f.share()
	}
	return nil
}

// share has further tasks take part, once all files have been described: they are not told.
func (f *flow) share() error {
	many := f.many
	if many == nil || f.stage != FileCopy || f.bytes < attachFrom {
		return nil
	}
	f.many = nil
	return many()
}

// now is the stage that the clone is in: one that takes part later is not told.
func (f *flow) now() Stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun
}

func (f *flow) data(body []byte) error {
	d := f.block
	if d == nil || uint64(d.Length) != uint64(len(body)) {
		return fmt.Errorf("%w: %d bytes that were not announced", ErrProtocol, len(body))
	}
	f.block = nil
	return f.sink.Block(*d, body)
}

// state takes the beginning or the end of a stage.
func (f *flow) state(s State) error {
	switch {
	case s.Ack:
		return nil // a sign of life
	case s.Start:
		return f.begin(s)
	}
	return f.finish(s)
}

// begin is the first of all tasks to tell the sink. The server begins a stage once all tasks have
// ended the one before.
func (f *flow) begin(s State) error {
	if s.Stage <= f.stage {
		return fmt.Errorf("%w: %s after %s", ErrProtocol, s.Stage, f.stage)
	}
	f.stage, f.bytes = s.Stage, s.Bytes
	if s.Stage >= FileCopy {
		f.task.idle = min(f.task.idle, copyTimeout)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Stage <= f.begun {
		return nil
	}
	f.begun = s.Stage
	return f.sink.Begin(s)
}

// finish waits, at the main task, until all tasks have come to the end of the stage, and tells the
// server so.
func (f *flow) finish(s State) error {
	f.mu.Lock()
	f.task.end = max(f.task.end, s.Stage)
	f.cond.Broadcast()
	if f.task != f.main {
		f.mu.Unlock()
		return nil
	}
	for !f.failed && !f.allAt(s.Stage) {
		f.cond.Wait()
	}
	failed := f.failed
	f.mu.Unlock()
	if failed {
		return errStopped
	}
	if err := f.sink.End(s.Stage); err != nil {
		return err
	}
	return f.acknowledge(s)
}

// allAt needs f.mu.
func (f *flow) allAt(s Stage) bool {
	for _, t := range f.tasks {
		if t.end < s {
			return false
		}
	}
	return true
}

func (f *flow) acknowledge(s State) error {
	state := s.acknowledgement()
	b := make([]byte, 4) // no error
	b = appendLocator(b, f.locator)
	b = binary.LittleEndian.AppendUint32(b, stateLen)
	if err := f.aux.command(commandAck, append(b, state...)); err != nil {
		return err
	}
	if err := f.aux.answers(func(byte, []byte) error { return nil }); err != nil {
		return fmt.Errorf("acknowledge the %s: %w", s.Stage, err)
	}
	return nil
}
