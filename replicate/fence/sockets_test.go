package fence

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// Only the lock of a socket on which nobody listens is removed.
func TestFreeSockets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	_ = listen("live.sock")
	for _, dead := range []string{"dead.sock", "text.sock"} {
		_ = listen(dead).Close() // as a process that is killed leaves it
	}
	for name, text := range map[string]string{
		"live.sock.lock": "1\n", "dead.sock.lock": "13\n", "text.sock.lock": "not a process\n", "missing.sock.lock": "13\n", "file": "", "file.lock": "13\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	freed, err := freeSockets([]string{dir, filepath.Join(dir, "missing")})
	if len(freed) != 1 || err != nil {
		t.Errorf("%v %v", freed, err)
	}
	for name, stays := range map[string]bool{
		"live.sock.lock": true, "dead.sock.lock": false, "text.sock.lock": true, "missing.sock.lock": true, "file.lock": true, "dead.sock": true, "file": true,
	} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s stays: %v, want %v", name, err == nil, stays)
		}
	}
}
