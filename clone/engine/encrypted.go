package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"understudy/clone/mysqlwire"
)

// noKeyring stands in for the name of a key management plugin that should be there.
const noKeyring = "that is missing"

// How each kind of encryption is turned off.
const (
	decryptSpace = "ALTER TABLE ... ENCRYPTION = 'N'; for mysql and a general tablespace ALTER TABLESPACE ... ENCRYPTION = 'N'"
	decryptRedo  = "SET PERSIST innodb_redo_log_encrypt = OFF, and restart the server"
	decryptUndo  = "SET PERSIST innodb_undo_log_encrypt = OFF, and for each undo tablespace ALTER UNDO TABLESPACE ... SET INACTIVE, then ACTIVE"
)

// encrypted names what is encrypted in the data of MySQL 8.0.13 and later, each with how to end
// that. Tablespaces are looked for only if there are keys. Binary logs do not count: no clone has
// them.
//
// https://dev.mysql.com/doc/refman/8.4/en/innodb-data-encryption.html
// https://dev.mysql.com/doc/refman/8.4/en/information-schema-innodb-tablespaces-table.html
func encrypted(ctx context.Context, db *sql.DB, keys bool) ([]string, error) {
	var redo, undo bool
	if err := db.QueryRowContext(ctx, "SELECT @@innodb_redo_log_encrypt, @@innodb_undo_log_encrypt").Scan(&redo, &undo); err != nil {
		return nil, fmt.Errorf("ask the server about encryption: %w", err)
	}
	var all []string
	if redo {
		all = append(all, "its redo log ("+decryptRedo+")")
	}
	if undo {
		all = append(all, "its undo logs ("+decryptUndo+")")
	}
	if !keys {
		return all, nil
	}
	names, err := column(ctx, db, "SELECT name FROM information_schema.innodb_tablespaces WHERE encryption = 'Y' ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("ask the server about encrypted tablespaces: %w", err)
	}
	if len(names) == 0 {
		return all, nil
	}
	if more := len(names) - maxNamed; more > 0 {
		names = append(names[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return append(all, "the tablespaces "+strings.Join(names, ", ")+" ("+decryptSpace+")"), nil
}

// needsKeys is the keyring, and what of the data needs it; empty: nothing does.
func needsKeys(ctx context.Context, db *sql.DB, keyring string) (string, error) {
	all, err := encrypted(ctx, db, keyring != "")
	if err != nil || len(all) == 0 {
		return "", err
	}
	if keyring == "" {
		keyring = noKeyring
	}
	return keyring + " for " + strings.Join(all, ", "), nil
}

// askEncryption refuses what would be encrypted in the copy.
func (s *snapshot) askEncryption(ctx context.Context) error {
	var inv Inventory
	var all []string
	err := within(ctx, askTimeout, s.db, []func(context.Context, *sql.DB) error{inv.readPlugins, inv.readKeyring})
	if err == nil {
		err = within(ctx, tablesTimeout, s.db, []func(context.Context, *sql.DB) error{func(ctx context.Context, db *sql.DB) error {
			var err error
			all, err = encrypted(ctx, db, inv.Encryption != "")
			return err
		}})
	}
	if err != nil || len(all) == 0 {
		return err
	}
	return unableEncrypted(strings.Join(all, ", "))
}

// nameEncrypted is why a server gives no keys: what has been encrypted since askEncryption.
func (s *snapshot) nameEncrypted(ctx context.Context) error {
	err := s.askEncryption(ctx)
	if !errors.Is(err, ErrUnable) {
		err = errors.Join(unableEncrypted("what is left of an encryption that is off: the redo log ("+decryptRedo+") or undo logs ("+decryptUndo+")"), err)
	}
	return err
}

// refuseEncrypted is about a file that the server describes: one that has been encrypted since
// askEncryption, or is still.
func refuseEncrypted(f mysqlwire.File) error {
	switch {
	case f.Name == "":
		return unableEncrypted("its redo log (" + decryptRedo + ")")
	case isUndo(f):
		return unableEncrypted("the undo log " + f.Name + " (" + decryptUndo + ")")
	}
	return unableEncrypted("the tablespace of the file " + f.Name + " (" + decryptSpace + ")")
}

// unableEncrypted is ErrUnable for what is encrypted.
func unableEncrypted(what string) error {
	return fmt.Errorf("%w: it would be encrypted, and a clone has no keys: decrypt %s", ErrUnable, what)
}
