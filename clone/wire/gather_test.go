package wire

import (
	"bytes"
	"errors"
	"net"
	"testing"
)

// countingConn notes the writes that reach the kernel.
type countingConn struct {
	net.Conn
	writes [][]byte
	err    error
}

func (c *countingConn) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	c.writes = append(c.writes, bytes.Clone(p))
	return len(p), nil
}

// What is written meanwhile leaves together, in order, and nothing leaves after a write that
// failed.
func TestGather(t *testing.T) {
	below := &countingConn{}
	c := &gatherConn{Conn: below}
	put := func(sizes ...int) (int, error) {
		n := 0
		for _, size := range sizes {
			m, err := c.Write(bytes.Repeat([]byte{byte('a' + size%26)}, size))
			if n += m; err != nil {
				return n, err
			}
		}
		return n, nil
	}
	for _, tt := range []struct {
		name  string
		sizes []int
		want  []int // what leaves at once
	}{
		{"one piece", []int{5, 16 << 10, 16 << 10, 2}, []int{5 + 32<<10 + 2}},
		{"more than it gathers", []int{1, gatherSize - 1, 7}, []int{gatherSize, 7}},
		{"one that is larger", []int{3, gatherSize + 1, 4}, []int{3, gatherSize + 1, 4}},
		{"nothing", nil, nil},
	} {
		below.writes = nil
		sum := 0
		for _, size := range tt.sizes {
			sum += size
		}
		if n, err := c.during(func() (int, error) { return put(tt.sizes...) }); n != sum || err != nil {
			t.Errorf("%s: %d, %v", tt.name, n, err)
		}
		var want []byte
		for _, size := range tt.sizes {
			want = append(want, bytes.Repeat([]byte{byte('a' + size%26)}, size)...)
		}
		if len(below.writes) != len(tt.want) || !bytes.Equal(bytes.Join(below.writes, nil), want) {
			t.Errorf("%s: %d writes", tt.name, len(below.writes))
		}
		for i := range tt.want {
			if len(below.writes[i]) != tt.want[i] {
				t.Errorf("%s: write %d has %d bytes, want %d", tt.name, i, len(below.writes[i]), tt.want[i])
			}
		}
	}
	below.writes = nil
	if _, err := put(9); err != nil || len(below.writes) != 1 {
		t.Errorf("not gathering: %d writes, %v", len(below.writes), err)
	}
	below.writes, below.err = nil, errors.New("it broke")
	if _, err := c.during(func() (int, error) { return put(5) }); !errors.Is(err, below.err) {
		t.Errorf("err = %v", err)
	}
	broke := below.err
	below.err = nil
	if _, err := put(1); !errors.Is(err, broke) || len(below.writes) > 0 {
		t.Errorf("after a write that failed: %v, %d writes", err, len(below.writes))
	}
}
