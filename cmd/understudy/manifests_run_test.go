package main

import (
	"path"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// With the component, the server's container runs the program that init has put there, with the
// image's entrypoint and its default command, and the sidecar sees its socket.
func TestManifestRun(t *testing.T) {
	for overlay, server := range map[string]string{"mariadb": "mariadbd", "mysql-clone": "mysqld"} {
		for name, of := range withComponent(overlay, "run") {
			t.Run(overlay+" "+name, func(t *testing.T) {
				p := podOf(t, of(t))
				program := path.Join(p.initVerb.install, programName)
				argv := append(slices.Clone(p.server.Command), p.server.Args...)
				if argv[0] != program || argv[1] != "run" {
					t.Fatalf("the server's container runs %q, and init installs %s", argv, program)
				}
				v := &runVerb{}
				flags := newFlagSet("run", t.Output())
				v.define(flags)
				if _, err := flags.parse(argv[2:], func(string) (string, bool) { return "", false }); err != nil {
					t.Fatal(err)
				}
				if err := v.validate(flags.Args()); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff([]string{"docker-entrypoint.sh", server}, v.command); d != "" {
					t.Error(d)
				}
				if v.socket != p.sidecarVerb.runSocket {
					t.Errorf("run listens at %s, and the sidecar looks at %s", v.socket, p.sidecarVerb.runSocket)
				}
				for _, c := range []*corev1.Container{p.init, p.sidecar, p.server} {
					if m, volume := p.mount(t, c, path.Dir(v.socket)); m.ReadOnly || m.SubPath != "" || m.Name != "understudy" || volume.EmptyDir == nil {
						t.Errorf("%s: %+v", c.Name, m)
					}
				}
				if path.Dir(v.socket) != p.initVerb.install {
					t.Error("the program and the socket are not on one volume")
				}
				restricted(t, p)
			})
		}
	}
}
