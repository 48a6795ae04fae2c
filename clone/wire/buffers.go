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

// maxHeld bounds what either kernel buffers for a connection: the replay buffer has room for both.
const maxHeld = (maxKeep - keepSlack) / 2

// sendBuffer is how much our kernel buffers for a connection at most, unsent or unacknowledged.
func sendBuffer() int64 { return min(kernelBuffer("tcp_wmem"), maxHeld) }

// receiveBuffer is how much our kernel buffers for a connection at most, unread.
func receiveBuffer() int64 { return min(kernelBuffer("tcp_rmem"), maxHeld) }

// boundSend and boundReceive keep a connection's buffer below maxHeld. They act only where the
// kernel's setting allows more, because setting a size turns off automatic growth. The kernel
// doubles the size it is given and caps it at net.core.wmem_max or rmem_max: see socket(7).
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

// sysctls is the directory of the kernel's settings.
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

// keepFor sizes the replay buffer: the socket buffers of both kernels and keepSlack. window is the
// joiner's header, ours the size of our own socket buffer.
func keepFor(window string, ours int64) int64 {
	theirs, err := strconv.ParseInt(window, 10, 64)
	if err != nil || theirs < 0 {
		theirs = maxKeep
	}
	return min(max(ours+min(theirs, maxKeep)+keepSlack, minKeep), maxKeep)
}
