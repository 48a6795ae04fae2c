package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"understudy/e2e/testserver"

	"github.com/go-sql-driver/mysql"
)

// mysqlVariants are the ways to copy a MySQL server. Those that start a server on the copy end when
// it answers.
func (b *bench) mysqlVariants() []variant {
	from := func(more ...string) func(string) []string {
		return func(dir string) []string {
			return append([]string{b.binary, "clone-from", b.member.Host, "--to", filepath.Join(dir, "data"), "--log-level=warn"}, more...)
		}
	}
	secret := []string{"--set=db", "--secret-file=" + b.set.SecretFile()}
	tls := variant{name: "(a) understudy, TLS", prepare: b.sidecar(), joiner: from(append(secret, "--prepare")...)}
	return []variant{
		tls,
		{name: "(b) understudy, `--insecure`", prepare: b.sidecar("--secret-file=", "--insecure"), joiner: from("--insecure", "--prepare")},
		{name: "(c) understudy, TLS and zstd", prepare: b.sidecar(), joiner: from(append(secret, "--prepare", "--compress=zstd")...)},
		{name: "(d) understudy, TLS, by way of a snapshot", prepare: b.sidecar(), joiner: from(secret...)},
		{name: "(e) `CLONE LOCAL`", prepare: b.nobody, do: b.cloneLocal},
		{name: "(f) (a), and the first start", prepare: tls.prepare, joiner: tls.joiner, start: true},
		{name: "(g) initialise, start, `CLONE INSTANCE`, start", prepare: b.nobody, do: b.cloneInstance, start: true},
	}
}

// cloneLocal is the server's own copy, beside its data.
func (b *bench) cloneLocal(ctx context.Context, dir string) error {
	_, err := b.member.Server.DB().ExecContext(ctx, "CLONE LOCAL DATA DIRECTORY = '"+filepath.Join(dir, "data")+"'")
	return err
}

// cloneInstance is what MySQL has for it: a server that has to be there, takes another one's data
// in place of its own, and ends.
func (b *bench) cloneInstance(ctx context.Context, dir string) error {
	data := filepath.Join(dir, "data")
	if err := b.install.Initialise(ctx, data, b.set.RootPassword()); err != nil {
		return err
	}
	s, err := b.install.Start(ctx, b.onCopy(data))
	if err != nil {
		return err
	}
	defer s.Kill()
	if _, err := s.DB().ExecContext(ctx, fmt.Sprintf("SET GLOBAL clone_valid_donor_list = '%s:3306'", b.member.Host)); err != nil {
		return err
	}
	_, err = s.DB().ExecContext(ctx, fmt.Sprintf("CLONE INSTANCE FROM 'root'@'%s':3306 IDENTIFIED BY '%s'", b.member.Host, b.set.RootPassword()))
	const noSupervisor = 3707 // the data are there, and the server ends, as nobody starts it again
	if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != noSupervisor {
		return fmt.Errorf("CLONE INSTANCE ended with: %w", err)
	}
	return nil
}

func (b *bench) onCopy(data string) testserver.Config {
	return testserver.Config{DataDir: data, RootPassword: b.set.RootPassword(), Extra: []string{"--plugin-load-add=mysql_clone.so", "--server-id=9", "--skip-replica-start"}}
}

// startOn starts a server on the copy, and returns when it answers.
func (b *bench) startOn(ctx context.Context, dir string) (stop func(), err error) {
	s, err := b.install.Start(ctx, b.onCopy(filepath.Join(dir, "data")))
	if err != nil {
		return nil, err
	}
	return s.Kill, nil
}
