package replicate

import "testing"

// wish makes what the operator's option files say of the event scheduler.
func wish(on, set bool) func() (bool, bool) { return func() (bool, bool) { return on, set } }

// A primary's events begin when it is open. One that came due while the server was down runs then,
// and not before, when it could only fail.
func TestEvents(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			in := installed(t, name)
			first, _ := freshDirs(t, in)
			p := newMember(t, in, 100, first)
			p.boot(t)
			p.follow(t, nil)
			starts := func(want bool, wish func() (bool, bool)) {
				t.Helper()
				p.agent.cfg.Events = wish
				p.reboot(t)
				steps := []Step{OpenForWrites, StartEvents, Rest}
				if !want {
					steps = []Step{OpenForWrites, Rest}
				}
				p.steps(t, steps...)
				p.steps(t, Rest)
			}
			p.agent.cfg.Events = wish(false, true)
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			const due = " ON SCHEDULE AT NOW() + INTERVAL 1 SECOND ON COMPLETION PRESERVE DO INSERT INTO d.t VALUES "
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "CREATE EVENT d.once"+due+"(1)")

			// With a scheduler that is on at the start, MySQL tries the event on the fenced server.
			starts(true, wish(true, true))
			p.arrives(t, rows, "1")
			byDefault := p.dialect().eventsByDefault
			starts(byDefault, wish(false, false))
			starts(false, wish(false, true))

			// The arguments outrank option files.
			usual := p.extra
			p.extra = append(usual, "--event-scheduler=OFF")
			starts(false, wish(true, true))
			p.extra = append(usual, "--event-scheduler=DISABLED")
			starts(false, wish(true, true))
			if f := p.agent.Status().Facts; !f.EventsDisabled {
				t.Errorf("facts %+v", f)
			}
			p.extra = append(usual, "--event-scheduler=ON")
			p.reboot(t)
			p.steps(t, StopEvents, OpenForWrites, StartEvents, Rest)
			p.run(t, "SET GLOBAL event_scheduler = OFF") // by a person, who means it
			p.steps(t, Rest)
		})
	}
}
