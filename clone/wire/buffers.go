package wire

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxHeld is the most that either kernel may hold of a connection: the replay buffer has
// room for both.
const maxHeld = (maxKeep - keepSlack) / 2

// sendBuffer is the most that our kernel holds for a connection, unsent or unconfirmed.
func sendBuffer() int64 { return min(kernelBuffer("tcp_wmem"), maxHeld) }

// receiveBuffer is the most that our kernel holds for a connection, unread.
func receiveBuffer() int64 { return min(kernelBuffer("tcp_rmem"), maxHeld) }

// boundSend and boundReceive keep a connection's buffer below maxHeld where the kernel
// would let it grow further: only there, since it grows by itself no more then. The kernel
// doubles what it is given, and gives no more than net.core.wmem_max or rmem_max: see socket(7).
func boundSend(c net.Conn) error {
	for {
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = wrapped.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok || kernelBuffer("tcp_wmem") <= maxHeld {
		return nil
	}
	return tcp.SetWriteBuffer(maxHeld / 2)
}

func boundReceive(_, _ string, c syscall.RawConn) error {
	if kernelBuffer("tcp_rmem") <= maxHeld {
		return nil
	}
	var err error
	control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, maxHeld/2) })
	return errors.Join(control, err)
}

// sysctls is where the kernel's settings are.
var sysctls = "/proc/sys/net/ipv4"

// kernelBuffer reads the third number of a setting, the largest size: see tcp(7).
func kernelBuffer(name string) int64 {
	const unknown = 8 << 20
	text, err := os.ReadFile(filepath.Join(sysctls, name))
	if err != nil {
		return unknown
	}
	fields := strings.Fields(string(text))
	if len(fields) != 3 {
		return unknown
	}
	n, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return unknown
	}
	return n
}

// keepFor sizes the replay buffer: what both kernels can hold of a connection, and a
// little more. window is the joiner's header, ours the most that our kernel holds.
func keepFor(window string, ours int64) int64 {
	theirs, err := strconv.ParseInt(window, 10, 64)
	if err != nil || theirs < 0 {
		theirs = maxKeep
	}
	return min(max(ours+min(theirs, maxKeep)+keepSlack, minKeep), maxKeep)
}
