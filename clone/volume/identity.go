package volume

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
)

// identity is made once for each volume.
type identity struct {
	ID string `json:"id"`
}

// ErrIdentity is returned for an identity that cannot be read.
var ErrIdentity = errors.New("unreadable identity of the volume")

// DataID identifies the data directory: it is another one after each clone, and on each new volume.
// It makes the volume's part of it where there is none yet.
func (v *Volume) DataID() (string, error) {
	path := filepath.Join(v.root, metaName, "identity")
	own, err := readJSON[identity](path, ErrIdentity)
	if err != nil {
		return "", err
	}
	if own == nil || own.ID == "" {
		own = &identity{ID: rand.Text()}
		if err := writeJSON(path, own, ownerReads); err != nil {
			return "", fmt.Errorf("write the identity of the volume: %w", err)
		}
	}
	j, err := v.ReadJournal()
	if err != nil {
		return "", err
	}
	if j == nil || j.ID == "" {
		return own.ID, nil
	}
	return own.ID + "/" + j.ID, nil
}
