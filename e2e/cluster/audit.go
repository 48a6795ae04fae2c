package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Access is one kind of request that a pod's service account has made of the API server.
type Access struct {
	User        string // system:serviceaccount:NAMESPACE:NAME
	Verb        string // get, list, watch, create, update, patch, delete …
	APIGroup    string // empty for the core group
	Resource    string // "pods"; empty for a request that names no resource, whose path is then in Name
	Subresource string
	Namespace   string
	Name        string // empty for create, list and watch, unless the request names one
	Allowed     bool   // false if RBAC refused it
}

// AuditedVerbs returns which requests the service accounts of all namespaces but kube-system have
// made since the cluster came up, and how often, by the API server's audit log. A watch counts when
// it ends.
func (c *Cluster) AuditedVerbs() (map[Access]int, error) {
	file, err := os.Open(filepath.Join(c.places.run, "audit", "audit.log"))
	if errors.Is(err, os.ErrNotExist) {
		return map[Access]int{}, nil // there was no request
	}
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer func() { _ = file.Close() }()
	return readAudit(bufio.NewReader(file))
}

// readAudit reads events as https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/ has
// them, one a line.
func readAudit(r io.Reader) (map[Access]int, error) {
	seen := map[Access]int{}
	for lines := json.NewDecoder(r); ; {
		var event struct {
			Verb, RequestURI string
			User             struct{ Username string }
			ObjectRef        struct{ APIGroup, Resource, Subresource, Namespace, Name string }
			Annotations      map[string]string
		}
		if err := lines.Decode(&event); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return seen, nil // the last line may be incomplete
		} else if err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		ref := event.ObjectRef
		access := Access{
			User: event.User.Username, Verb: event.Verb, APIGroup: ref.APIGroup, Resource: ref.Resource, Subresource: ref.Subresource,
			Namespace: ref.Namespace, Name: ref.Name, Allowed: event.Annotations["authorization.k8s.io/decision"] == "allow",
		}
		if access.Resource == "" {
			access.Name = event.RequestURI
		}
		seen[access]++
	}
}
