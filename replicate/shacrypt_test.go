package replicate

import (
	"encoding/hex"
	"strings"
	"testing"
)

// The vectors are those of https://www.akkadia.org/drepper/SHA-crypt.txt, whose salts end at 16
// bytes.
func TestSHACrypt(t *testing.T) {
	tests := []struct {
		password, salt string
		rounds         int
		want           string
	}{
		{"Hello world!", "saltstring", 5000, "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
		{"Hello world!", "saltstringsaltst", 10000, "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"},
		{"This is just a test", "toolongsaltstrin", 5000, "Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"},
		{
			"a very much longer text to encrypt.  This one even stretches over morethan one line.", "anotherlongsalts", 1400,
			"Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
		},
		{"we have a short salt string but not a short password", "short", 77777, "JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/"},
		{"a short string", "asaltof16chars..", 123456, "gP3VQ/6X7UUEW3HkBn2w1/Ptq2jxPyzV/cZKmF/wJvD"},
	}
	for _, tt := range tests {
		t.Run(tt.password, func(t *testing.T) {
			if got := shaCrypt(tt.password, tt.salt, tt.rounds); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// The stored hashes are what MySQL 9.7 made of CREATE USER … BY, in hex for the bytes of its salts.
func TestCachingSHA2(t *testing.T) {
	tests := []struct{ name, password, stored string }{
		{"by MySQL", "secret", unhex(t, "244124303041244143740E5E684C1A79354E22773B177B4D775D4675343956502E754F63623158753768593563726E766E48394F433871306F4D2E554239755A554654347635")},
		{
			"by MySQL, of a password longer than a digest", "a longer one, of more than thirty-two characters",
			unhex(t, "24412430304124130154457D5B0103644D4C675D535232510B0B137A696348386E6C4D7667345078387A6A6E50382F537439533345446B6D534544616B795949626F79733641"),
		},
		{"by ourselves", secret, cachingSHA2(secret)},
		{"of nothing", "", cachingSHA2("")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !isCachingSHA2(tt.stored, tt.password) {
				t.Errorf("%q is not the hash of %q", tt.stored, tt.password)
			}
			if isCachingSHA2(tt.stored, tt.password+"x") {
				t.Errorf("%q is the hash of another password, too", tt.stored)
			}
		})
	}
	made := cachingSHA2(secret)
	if made == cachingSHA2(secret) {
		t.Error("the salt is always the same")
	}
	if rest := strings.TrimLeft(made, crypt64+"$"); len(made) != 70 || rest != "" || !strings.HasPrefix(made, "$A$005$") {
		t.Errorf("%q: %d bytes, odd from %q on", made, len(made), rest)
	}
	for _, stored := range []string{"", "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "$A$005$", made[:69], made + "x", "$B" + made[2:], "$A$0x5" + made[6:], "$A$000" + made[6:]} {
		if isCachingSHA2(stored, secret) {
			t.Errorf("%q is taken for a hash", stored)
		}
	}
}

func unhex(t *testing.T, s string) string {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
