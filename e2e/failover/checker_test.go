//go:build failover

package failover

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The checker's own rules, without servers.
func TestRegisterModel(t *testing.T) {
	op := func(call, ret int64, u use) porcupine.Operation {
		if u.doubtful {
			ret = math.MaxInt64
		}
		return porcupine.Operation{Call: call, Return: ret, Input: u}
	}
	for _, tt := range []struct {
		name    string
		history []porcupine.Operation
		want    bool
	}{
		{"a read of what was written", []porcupine.Operation{op(1, 2, use{written: 7}), op(3, 4, use{read: 7})}, true},
		{"a stale read", []porcupine.Operation{op(1, 2, use{written: 7}), op(3, 4, use{read: 0})}, false},
		{"a read while it is written", []porcupine.Operation{op(1, 4, use{written: 7}), op(2, 3, use{read: 7}), op(2, 3, use{read: 0})}, true},
		{"two changes of the same value", []porcupine.Operation{op(1, 2, use{written: 7}), op(3, 4, use{written: 8})}, false},
		{"a doubtful change that was made", []porcupine.Operation{op(1, 2, use{written: 7, doubtful: true}), op(3, 4, use{read: 7})}, true},
		{"a doubtful change that was made later", []porcupine.Operation{op(1, 2, use{written: 7, doubtful: true}), op(3, 4, use{read: 0}), op(5, 6, use{read: 7})}, true},
		{"a doubtful change that was not made", []porcupine.Operation{op(1, 2, use{written: 7, doubtful: true}), op(3, 4, use{written: 8}), op(5, 6, use{read: 8})}, true},
		{"a doubtful change that was made and is gone", []porcupine.Operation{op(1, 2, use{written: 7, doubtful: true}), op(3, 4, use{read: 7}), op(5, 6, use{read: 0})}, false},
		{"an acknowledged change that is gone", []porcupine.Operation{op(1, 2, use{written: 7}), op(3, 4, use{read: 7, written: 8}), op(5, 6, use{read: 7})}, false},
		{"registers do not know of one another", []porcupine.Operation{op(1, 2, use{register: 1, written: 7}), op(3, 4, use{register: 2, read: 0})}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := porcupine.CheckOperations(register, tt.history); got != tt.want {
				t.Errorf("linearizable: %v", got)
			}
		})
	}
}

// Two members are open at one instant where a look at one lies within the time between two looks at
// the other, with nothing else seen between.
func TestInstant(t *testing.T) {
	at := func(ms int) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.Unix(0, int64(ms)*int64(time.Millisecond))
	}
	made := func(since, asked, told int) look { return look{since: at(since), asked: at(asked), told: at(told)} }
	for _, tt := range []struct {
		name string
		a, b look
		want bool
	}{
		{"one after the other", made(10, 20, 21), made(22, 30, 31), false},
		{"within", made(10, 20, 21), made(0, 12, 15), true},
		{"the other way", made(0, 12, 15), made(10, 20, 21), true},
		{"it may have been before", made(10, 20, 21), made(0, 9, 15), false},
		{"it may have been after", made(10, 20, 21), made(0, 19, 22), false},
		{"not seen open all the time", made(0, 20, 21), made(0, 12, 15), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.with(tt.b); got != tt.want {
				t.Errorf("at one instant: %v", got)
			}
		})
	}
}
