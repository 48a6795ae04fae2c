package xbstream

import (
	"errors"
	"hash/maphash"
	"strings"
)

// maxNamed bounds the files and directories of a stream, and with them the memory for their names:
// about 17 bytes each.
const maxNamed = 4 << 20

var (
	errTwice   = errors.New("a file of this name has been in the stream already")
	errIsDir   = errors.New("another file of the stream has this name as its directory")
	errInFile  = errors.New("the name has another file of the stream as its directory")
	errTooMany = errors.New("too many files")
)

// names remembers every name of a stream for its whole length, so it keeps hashes. With the seed of
// the process two names of a million collide with a chance of 1 in 37 million, and then a sound
// stream is refused, not a bad one taken.
type names struct {
	seed maphash.Seed
	dirs map[uint64]bool // false: a file
}

func newNames() *names {
	return &names{seed: maphash.MakeSeed(), dirs: make(map[uint64]bool)}
}

// add remembers a clean name as that of a file, and the directories in it. For each directory that
// is new, the ones above first, it calls mkdir, which may be nil.
func (s *names) add(name string, mkdir func(dir string) error) error {
	h := maphash.String(s.seed, name)
	if dir, ok := s.dirs[h]; dir {
		return errIsDir
	} else if ok {
		return errTwice
	}
	for i := 0; ; i++ {
		n := strings.IndexByte(name[i:], '/')
		if n < 0 {
			break
		}
		i += n
		d := maphash.String(s.seed, name[:i])
		dir, ok := s.dirs[d]
		switch {
		case dir:
			continue
		case ok:
			return errInFile
		case len(s.dirs) >= maxNamed:
			return errTooMany
		}
		if mkdir != nil {
			if err := mkdir(name[:i]); err != nil {
				return err
			}
		}
		s.dirs[d] = true
	}
	if len(s.dirs) >= maxNamed {
		return errTooMany
	}
	s.dirs[h] = false
	return nil
}
