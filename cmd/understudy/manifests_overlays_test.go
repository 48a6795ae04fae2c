package main

import (
	"path"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"understudy/clone/engine"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
)

// The overlays for MySQL: the server reads what init writes, has the password that the
// sidecar has, and makes its snapshots where the sidecar looks for them.
func TestManifestsOfMySQL(t *testing.T) {
	for _, o := range []struct {
		overlay, engine, include string
		account                  int64
	}{
		{"mysql-clone", engine.MySQLCloneName, "/etc/mysql/conf.d", 999},
		{"percona", engine.XtraBackupName, "/etc/my.cnf.d", 1001},
	} {
		for name, of := range renderings {
			t.Run(o.overlay+" "+name, func(t *testing.T) {
				p := podOf(t, of(t, o.overlay))
				restrictedAs(t, p, o.account)
				for _, m := range []struct {
					memberFlags
					engineFlags
				}{{p.initVerb.member, p.initVerb.engine}, {p.sidecarVerb.member, p.sidecarVerb.engine}} {
					if m.id.Flavor != flavor.MySQL || m.name != o.engine {
						t.Errorf("flavour %s, engine %s", m.id.Flavor, m.name)
					}
				}
				p.configured(t, o.include)
				claim := p.set.Spec.VolumeClaimTemplates[0].Name
				for _, c := range []*corev1.Container{p.sidecar, p.server} {
					if m, _ := p.mount(t, c, "/var/lib/mysql"); m.Name != claim || m.SubPath != "mysql" {
						t.Errorf("%s does not have the data directory", c.Name)
					}
				}
				if o.engine == engine.MySQLCloneName {
					const sub = ".understudy/snapshot"
					if m, _ := p.mount(t, p.server, path.Join(p.sidecarVerb.volume, sub)); m.Name != claim || m.SubPath != sub || m.ReadOnly {
						t.Error("the server's snapshots are not where the sidecar looks for them")
					}
				}
				env := map[string]string{}
				for _, e := range p.server.Env {
					env[e.Name] = e.Value
				}
				if key, _ := p.key(t, p.server, env["MYSQL_ROOT_PASSWORD_FILE"]); key != "root-password" || env["MYSQL_ROOT_HOST"] != "127.0.0.1" {
					t.Errorf("root: %v", env)
				}
				if p.server.Ports[0].ContainerPort != serverPort || p.sidecar.Ports[0].ContainerPort != wire.Port {
					t.Error("ports")
				}
			})
		}
	}
}
