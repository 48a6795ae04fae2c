//go:build faults

package faults

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// cutAtBorders ends the stream properly, but too early: no format tells, only the proof.
func cutAtBorders(kind string, step int, change func(d *recorded, chunk int)) row {
	r := row{kind: kind}
	for i := 0; i < len(chunks()); i += step {
		c := chunks()[i]
		r.faults = append(r.faults, fault{
			name: fmt.Sprintf("before %c of %s at %d", c.kind, c.path, c.at), then: refused, code: 5, say: "broken stream",
			donor: func(d *recorded) {
				d.pieces = [][]byte{stream()[:c.at]}
				if change != nil {
					change(d, i)
				}
			},
		})
	}
	return r
}

// flipped turns over bits in every field of some chunks. At the source the proof matches.
func flipped(kind string, source bool) row {
	r := row{kind: kind}
	for i := 0; i < len(chunks()); i += 35 {
		c := chunks()[i]
		fields := []place{{"magic", 3}, {"type", kindAt}, {"path length", sizeAt}, {"path", pathAt}}
		if !source { // a flag changes nothing, and a change at the source cannot be detected
			fields = append(fields, place{"flags", 8})
		}
		if c.kind == 'P' {
			body := int64(pathAt + len(c.path))
			fields = append(
				fields, place{"length", body}, place{"offset", body + 9}, place{"checksum", body + 16}, place{"payload begins", body + payload},
				place{"half of the payload", (body + payload + int64(c.end-c.at)) / 2}, place{"payload ends", int64(c.end-c.at) - 1},
			)
		}
		for n, f := range fields {
			at := c.at + int(f.at)
			bit := byte(1) << ((i + n) % 8)
			r.faults = append(r.faults, fault{
				name: fmt.Sprintf("%s of %c of %s, bit %d", f.name, c.kind, c.path, (i+n)%8), then: refused, code: 5, say: "broken stream",
				donor: func(d *recorded) {
					b := stream()
					d.pieces = [][]byte{b[:at], {b[at] ^ bit}, b[at+1:]}
					if source {
						d.proof = proofOf(d.pieces...)
					}
				},
			})
		}
	}
	return r
}

// lies are faults in the proof, or in the data that it proves.
func lies() row {
	r := row{kind: "lies about the stream"}
	lie := func(name, say string, change func(*recorded)) {
		for _, byInit := range []bool{false, true} {
			who := "clone-from: "
			if byInit {
				who = "init: "
			}
			r.faults = append(r.faults, fault{name: who + name, init: byInit, then: refused, code: 5, say: say, donor: change})
		}
	}
	trailer := func(name, value string) func(*recorded) {
		return func(d *recorded) {
			d.proof = maps.Clone(d.proof)
			d.proof[name] = value
			if value == "" {
				delete(d.proof, name)
			}
		}
	}
	body := func(pieces ...[]byte) func(*recorded) {
		return func(d *recorded) { d.pieces, d.proof = pieces, proofOf(pieces...) }
	}
	lie("no trailers", "sent no trailers", func(d *recorded) { d.proof = nil })
	lie("no exit status", "sent no trailers", trailer("Understudy-Exit-Status", ""))
	lie("exit status 1", "the backup at", trailer("Understudy-Exit-Status", "1"))
	lie("exit status of no number", "the backup at", trailer("Understudy-Exit-Status", "fine"))
	lie("no digest", "the stream differs", trailer("Understudy-Digest", ""))
	lie("wrong digest", "the stream differs", trailer("Understudy-Digest", "xxh64:00"))
	lie("no byte count", "bytes arrived", trailer("Understudy-Bytes", ""))
	lie("one byte too many", "bytes arrived", trailer("Understudy-Bytes", strconv.Itoa(len(stream())+1)))
	lie("one byte too few", "bytes arrived", trailer("Understudy-Bytes", strconv.Itoa(len(stream())-1)))
	lie("nothing", "broken stream", body(nil))
	lie("an error page", "corrupt", body([]byte("<html><h1>502 Bad Gateway</h1></html>")))
	lie("a page behind the end", "corrupt", body(stream(), []byte("<html></html>")))
	lie("the stream twice", "corrupt", body(stream(), stream()))
	lie("zeroes behind the end", "corrupt", body(stream(), make([]byte, 4096)))
	lie("a replica without its source's coordinate", "the source's coordinate", func(d *recorded) { d.header["Understudy-Role"] = "replica" })
	return r
}

// lyingHeads announce what init refuses before the first byte.
func lyingHeads() row {
	r := row{kind: "heads that cannot be"}
	for _, h := range []struct {
		name, value string
		code        int
		say         string
	}{
		{"Understudy-Origin", "", 3, "no replication coordinate"},
		{"Understudy-Estimated-Bytes", strconv.FormatInt(1<<50, 10), 3, "the clone needs about 1024.0 TiB"},
		{"Understudy-Engine", "xtrabackup", 3, "the donor streams with"},
		{"Understudy-Server-Version", "11.8.2-MariaDB", 3, ""},
		{"Understudy-Server-Version", "five", 3, "the donor's server"},
		{"Understudy-Estimated-Bytes", "-1", 4, "does not speak the clone protocol"},
		{"Understudy-Encoding", "rot13", 4, "does not speak the clone protocol"},
		{"Understudy-Role", "king", 4, "does not speak the clone protocol"},
		{"Content-Type", "text/html", 4, "does not speak the clone protocol"},
	} {
		if h.say == "" {
			h.say = "refused"
		}
		r.faults = append(r.faults, fault{
			name: h.name + " is " + strconv.Quote(h.value), init: true, then: refused, code: h.code, say: h.say,
			donor: func(d *recorded) { d.header[h.name] = h.value },
		})
	}
	return r
}

// foreignPages are answers of servers that are no donors.
func foreignPages() row {
	r := row{kind: "a page instead of a stream"}
	for _, status := range []int{200, 302, 403, 404, 500, 502, 503} {
		r.faults = append(r.faults, fault{
			name: strconv.Itoa(status), init: true, then: refused, code: 4, say: "does not speak the clone protocol",
			donor: func(d *recorded) {
				d.page = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", "/v1/member")
					w.WriteHeader(status)
					_, _ = io.WriteString(w, "<html><h1>It works!</h1></html>") // the joiner may have gone
				}
			},
		})
	}
	return r
}

// file is a file of a stream, as the tools write it.
func file(name, text string) []byte {
	var b bytes.Buffer
	head := func(kind byte) {
		b.WriteString("XBSTCK01\x00")
		b.WriteByte(kind)
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(name)))) //nolint:gosec // short
		b.WriteString(name)
	}
	head('P')
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	b.Write(binary.LittleEndian.AppendUint64(nil, 0))
	b.Write(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text))))
	b.WriteString(text)
	head('E')
	return b.Bytes()
}

// tricks are names that would leave the directory, or take the place of another file.
func tricks() row {
	r := row{kind: "path tricks"}
	for _, name := range []string{
		"../evil", "../../evil", "..", ".", "./", "", "/evil", "//evil", "mysql/../../evil", "mysql/..", "mysql/./x", "mysql//../../evil", "evil\x00.ibd",
		strings.Repeat("x", 513), strings.Repeat("x/", 256) + "x", "ibdata1", "ibdata1/evil", "mysql", "xtrabackup_info",
	} {
		for where, at := range map[string]int{"first": 0, "last": chunks()[len(chunks())-2].at} {
			r.faults = append(r.faults, fault{
				name: fmt.Sprintf("%.20q %s", name, where), then: refused, code: 5, say: "corrupt",
				donor: func(d *recorded) {
					d.pieces = [][]byte{stream()[:at], file(name, "evil"), stream()[at:]}
					d.proof = proofOf(d.pieces...)
				},
			})
		}
	}
	return r
}
