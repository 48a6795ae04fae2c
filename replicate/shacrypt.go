package replicate

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
)

// What caching_sha2_password stores of a password: "$A$", a number of three hex digits, "$", a
// salt, and a digest.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html
const (
	cachingSHA2Prefix = "$A$"
	// cachingSHA2Unit is how many rounds the number stands for: "005", the server's default, are
	// 5000.
	cachingSHA2Unit   = 1000
	cachingSHA2Number = 5
	cachingSHA2Salt   = 20
	cachingSHA2Digest = 43
)

// cachingSHA2 makes a hash with a fresh salt, of letters that no quoting changes. With it in the
// statement, no password enters the binary log.
func cachingSHA2(password string) string {
	salt := make([]byte, cachingSHA2Salt)
	_, _ = rand.Read(salt) // never fails, see crypto/rand
	for i, b := range salt {
		salt[i] = crypt64[b&0x3f]
	}
	return fmt.Sprintf("%s%03X$%s%s", cachingSHA2Prefix, cachingSHA2Number, salt, shaCrypt(password, string(salt), cachingSHA2Number*cachingSHA2Unit))
}

// isCachingSHA2 says whether a stored hash is the password's, with whatever salt.
func isCachingSHA2(stored, password string) bool {
	rest, ok := strings.CutPrefix(stored, cachingSHA2Prefix)
	number, rest, ok2 := strings.Cut(rest, "$")
	if !ok || !ok2 || len(rest) != cachingSHA2Salt+cachingSHA2Digest {
		return false
	}
	n, err := strconv.ParseUint(number, 16, 12) // three digits
	return err == nil && shaCrypt(password, rest[:cachingSHA2Salt], int(n)*cachingSHA2Unit) == rest[cachingSHA2Salt:]
}

// crypt64 are the digits of base 64 as crypt(3) has them.
const crypt64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// shaCrypt is the digest of crypt(3)'s method 5, SHA-256, without the salt before it: 43
// characters. MySQL has a salt of 20 bytes where others end at 16.
//
// https://www.akkadia.org/drepper/SHA-crypt.txt; the numbers are those of its steps.
func shaCrypt(password, salt string, rounds int) string {
	b := sum256(password, salt, password)                 // 4 to 8
	a := []string{password, salt, fill(b, len(password))} // 1 to 3, 9, 10
	for bits := len(password); bits > 0; bits >>= 1 {     // 11
		if bits&1 != 0 {
			a = append(a, b)
		} else {
			a = append(a, password)
		}
	}
	c := sum256(a...)                                                         // 12
	p := fill(sum256(strings.Repeat(password, len(password))), len(password)) // 13 to 16
	s := fill(sum256(strings.Repeat(salt, 16+int(c[0]))), len(salt))          // 17 to 20
	for round := range rounds {                                               // 21
		first, last := c, p
		if round%2 != 0 {
			first, last = p, c
		}
		var third, seventh string
		if round%3 != 0 {
			third = s
		}
		if round%7 != 0 {
			seventh = p
		}
		c = sum256(first, third, seventh, last)
	}
	return cryptDigits(c) // 22
}

func sum256(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // never fails, see hash.Hash
	}
	return string(h.Sum(nil))
}

// fill repeats a digest up to a length.
func fill(digest string, length int) string {
	return strings.Repeat(digest, length/len(digest)+1)[:length]
}

// cryptDigits writes the 32 bytes of a digest, three at a time, in the order that the method
// defines, the lowest six bits first.
func cryptDigits(digest string) string {
	var out strings.Builder
	write := func(x, y, z byte, digits int) {
		bits := uint32(x)<<16 | uint32(y)<<8 | uint32(z)
		for range digits {
			out.WriteByte(crypt64[bits&0x3f])
			bits >>= 6
		}
	}
	x, y, z := 0, 10, 20
	for range 10 {
		write(digest[x], digest[y], digest[z], 4)
		x, y, z = z+1, x+1, y+1
	}
	write(0, digest[31], digest[30], 3)
	return out.String()
}
