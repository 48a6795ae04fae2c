// Package hostcheck says whether a certificate is for a host as database servers see it: by the
// rule of OpenSSL, which is not that of Go. A leaf: clone and replicate share it.
package hostcheck

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// ErrHost is returned for a certificate that is not for the host. The text after it has the names
// on both sides, and what to do.
var ErrHost = errors.New("the certificate is for another host")

// Check does what a server does that follows the server at host, a name or an IP address:
// X509_check_host, then X509_check_ip_asc, both without flags. It knows one difference, to the
// careful side: a star that is only a part of its label, as in db-*.example.com, counts for nothing
// here.
//
// https://docs.openssl.org/3.0/man3/X509_check_host/
// https://github.com/mysql/mysql-server/blob/8.4/sql-common/client.cc (ssl_verify_server_cert)
// https://github.com/MariaDB/server/blob/10.11/sql-common/client.c (ssl_verify_server_cert)
func Check(cert *x509.Certificate, host string) error {
	names := cert.DNSNames
	if len(names) == 0 && cert.Subject.CommonName != "" { // only then does it count
		names = []string{cert.Subject.CommonName}
	}
	short := false
	for _, name := range names {
		if matches(name, host) {
			return nil
		}
		short = short || strings.HasPrefix(name, "*.") && !isPattern(name) && matches(name+".a", host+".a")
	}
	if ip := net.ParseIP(host); ip != nil && slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
		return nil
	}
	for _, ip := range cert.IPAddresses {
		names = append(slices.Clip(names), ip.String())
	}
	if short {
		return fmt.Errorf("%w: it is for %q, and servers want two dots after a star: issue one that names %s in full, or a longer name", ErrHost, names, host)
	}
	return fmt.Errorf("%w: it is for %q, not for %s: issue one that names it", ErrHost, names, host)
}

// matches compares one name of a certificate with a host. Neither may end in a dot.
func matches(name, host string) bool {
	if strings.EqualFold(name, host) {
		return host != ""
	}
	if !isPattern(name) {
		return false
	}
	label, rest, _ := strings.Cut(host, ".")
	return strings.EqualFold(rest, name[len("*."):]) && label != "" && strings.Trim(label, alphanumeric+"-") == ""
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// isPattern says whether the star of a name means any label: two dots at least come after it, and
// labels of letters, digits and dashes.
func isPattern(name string) bool {
	domain, star := strings.CutPrefix(name, "*.")
	labels := strings.Split(domain, ".")
	return star && len(labels) > 1 && !slices.ContainsFunc(labels, func(label string) bool {
		return label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, alphanumeric+"-") != ""
	})
}
