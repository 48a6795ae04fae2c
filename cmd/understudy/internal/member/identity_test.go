package member

import "testing"

func TestAbsoluteNames(t *testing.T) {
	const pod = "nameserver 10.96.0.10\nsearch database.svc.cluster.local svc.cluster.local cluster.local example.com\noptions ndots:5\n"
	for _, tt := range []struct{ name, conf, host, want string }{
		{"as members are named", pod, "db-1.db", "db-1.db.database.svc.cluster.local."},
		{"with the namespace", pod, "db-1.db.database", "db-1.db.database.svc.cluster.local."},
		{"with svc", pod, "db-1.db.database.svc", "db-1.db.database.svc.cluster.local."},
		{"whole", pod, "db-1.db.database.svc.cluster.local", "db-1.db.database.svc.cluster.local."},
		{"absolute already", pod, "db-1.db.database.svc.cluster.local.", "db-1.db.database.svc.cluster.local."},
		{"of another service", pod, "db-1.other", "db-1.other"},
		{"of another namespace", pod, "db-1.db.other", "db-1.db.other"},
		{"elsewhere", pod, "db-1.example.com", "db-1.example.com"},
		{"an address", pod, "127.0.0.1", "127.0.0.1"},
		{"another domain", "search database.svc.k8s.example.\n", "db-1.db", "db-1.db.database.svc.k8s.example."},
		{"the last list counts", pod + "search example.com\n", "db-1.db", "db-1.db"},
		{"another namespace's pod", "search other.svc.cluster.local\n", "db-1.db", "db-1.db"},
		{"no cluster", "search example.com\n", "db-1.db", "db-1.db"},
		{"nothing", "", "db-1.db", "db-1.db"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := Identity{Service: "db", Namespace: "database"}
			id.FindDomain(tt.conf)
			if got := id.Absolute(tt.host); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if dial := id.Dial(); (dial == nil) != (id.Domain == "") || dial != nil && dial(tt.host+":3307") != tt.want+":3307" {
				t.Error("it dials something else")
			}
		})
	}
}
