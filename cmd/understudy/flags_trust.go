package main

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"understudy/clone/trust"
	"understudy/cmd/understudy/internal/member"
)

// trustFlags say how members authenticate to one another: by the set's secret, by certificates, or
// not at all.
type trustFlags struct {
	secretFile, secretFilePrevious string

	certificate trust.CertificateFiles
	name        string

	insecure bool
}

// byHand makes the asker of a command that was run by hand, which is no member of the set.
func (t *trustFlags) byHand(id member.Identity, port int, log *slog.Logger) (*member.Member, error) {
	pair, err := t.config(id.Namespace, id.Set, log)
	if err != nil {
		return nil, err
	}
	findDomain(&id, log)
	id.Name = handName()
	return &member.Member{Identity: id, TLS: pair, Port: port, Log: log}, nil
}

func (t *trustFlags) define(f *flagSet) {
	f.StringVar(&t.secretFile, "secret-file", "", "`file` with the set's secret, at least 32 bytes;\nmake one with: head -c 32 /dev/urandom | base64")
	f.StringVar(&t.secretFilePrevious, "secret-file-previous", "", "`file` with the previous secret during a rotation; may be missing or empty. Members that have a\n"+
		"secret in common accept one another. Both files are read again at every handshake")
	f.StringVar(&t.certificate.Cert, "tls-cert", "", "`file` with the member's certificate (PEM, followed by intermediate ones), in place of a secret;\n"+
		"with --tls-key and --tls-ca. It needs the usages server auth and client auth, and the DNS names\n"+
		"--tls-name and --peer-host. At least two dots must follow a star: *.db.default.svc, not *.db.\n"+
		"The files are read again at every handshake")
	f.StringVar(&t.certificate.Key, "tls-key", "", "`file` with its private key (PEM)")
	f.StringVar(&t.certificate.CA, "tls-ca", "", "`file` with the certificate authorities (PEM) that peers' certificates are verified against")
	f.StringVar(&t.name, "tls-name", "*.{set}.{namespace}.svc", "`template` with {set} and {namespace} of the DNS name that a peer's certificate must have, and\n"+
		"that no certificate of another set or workload may have. A leading * also stands for any one\n"+
		"label, as in db-0.db.default.svc")
	f.BoolVar(&t.insecure, "insecure", false, "turn authentication and encryption off: any client can take a clone, and replicas do not verify\ntheir source")
}

// dnsName matches a DNS name whose first label may be a *.
var dnsName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (t *trustFlags) validate() error {
	var missing, given []string
	for _, flag := range []struct{ name, value string }{
		{"--tls-cert", t.certificate.Cert}, {"--tls-key", t.certificate.Key}, {"--tls-ca", t.certificate.CA},
	} {
		if flag.value == "" {
			missing = append(missing, flag.name)
		} else {
			given = append(given, flag.name)
		}
	}
	switch {
	case t.insecure && (t.secretFile != "" || t.secretFilePrevious != "" || len(given) > 0):
		return errors.New("--insecure turns authentication off: remove it, or remove --secret-file and --tls-*")
	case t.insecure:
		return nil
	case len(given) > 0 && (t.secretFile != "" || t.secretFilePrevious != ""):
		return fmt.Errorf("a member proves itself by a secret or by a certificate, not by both: remove --secret-file, or remove %s", strings.Join(given, " and "))
	case len(given) > 0 && len(missing) > 0:
		return fmt.Errorf("--tls-cert, --tls-key and --tls-ca are required together: give %s, too", strings.Join(missing, " and "))
	case len(given) > 0 && !dnsName.MatchString(t.fill("namespace", "set")):
		return fmt.Errorf("--tls-name=%s: it must be a DNS name, which may begin with *. and contain {set} and {namespace}", t.name)
	case len(given) > 0:
		return nil
	case t.secretFile == "" && t.secretFilePrevious != "":
		return errors.New("--secret-file-previous needs --secret-file: give the current secret, too")
	case t.secretFile == "":
		return errors.New("authentication is required: give --secret-file (make a secret with: head -c 32 /dev/urandom | base64 > FILE), or --tls-cert, --tls-key and --tls-ca, or --insecure to do without")
	}
	return nil
}

func (t *trustFlags) fill(namespace, set string) string {
	return strings.NewReplacer("{set}", set, "{namespace}", namespace).Replace(t.name)
}

// config makes the TLS configurations, which read their files again at every handshake.
func (t *trustFlags) config(namespace, set string, log *slog.Logger) (member.TLS, error) {
	if t.insecure {
		log.Warn("clones are unencrypted and open to every client, and no replica verifies its source: --insecure")
		return member.TLS{}, nil
	}
	var (
		id  *trust.Identity
		err error
	)
	if t.secretFile != "" {
		id, err = trust.FromSecretFiles(namespace, set, trust.SecretFiles{Current: t.secretFile, Previous: t.secretFilePrevious}, log)
	} else {
		id, err = trust.FromCertificates(t.certificate, t.fill(namespace, set), log)
	}
	if err != nil {
		return member.TLS{}, fmt.Errorf("prove that this is a member of %s/%s: %w", namespace, set, err)
	}
	return member.TLS{Client: id.Client(), Server: id.Server(), Trust: id}, nil
}
