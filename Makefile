# The default target lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

GOLANGCI_LINT_VERSION := v2.15.0
GOTESTSUM_VERSION := v1.13.0
MISSPELL_VERSION := v0.7.0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN := bin
CACHE := .cache
GO_FILES = $(shell git ls-files '*.go')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the static binary bin/understudy
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/understudy ./cmd/understudy

MYSQL := unpack sid $(CACHE)/servers/mysql-9.7 mysql-server-core mysql-client-core

.PHONY: servers
servers: ## the servers that demo and tests need, from Debian's packages
	e2e/testserver/packages.sh machine
	e2e/testserver/packages.sh unpack trixie $(CACHE)/servers/mariadb-11.8 mariadb-server-core mariadb-client-core mariadb-backup
	e2e/testserver/packages.sh $(MYSQL)
	@PATH="$$PATH:/usr/sbin"; command -v nft > /dev/null || $(if $(filter 0,$(shell id -u)),,sudo) apt-get install -yqq --no-install-recommends nftables
	@compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' > /dev/null || $(if $(filter 0,$(shell id -u)),,sudo) apt-get install -yqq --no-install-recommends libfaketime
	@for p in strace zstd lz4 ncat; do command -v $$p > /dev/null || $(if $(filter 0,$(shell id -u)),,sudo) apt-get install -yqq --no-install-recommends $$p; done

.PHONY: demo
demo: build ## three real members under a writer; ENGINE=mysql; KEEP=1 leaves them running; PRIMARY=lease: with failover, as root
	e2e/testserver/packages.sh $(if $(filter mysql,$(ENGINE)),$(MYSQL),machine)
	$(if $(filter lease,$(PRIMARY)),e2e/cluster/build.sh)
	@go build -o $(BIN)/demo ./e2e/demo
	@PATH="$$PATH:/usr/sbin" $(BIN)/demo -binary $(BIN)/understudy -engine $(or $(ENGINE),mariadb) $(if $(PRIMARY),-primary $(PRIMARY)) $(if $(KEEP),-keep)

# Unit, command and end-to-end tests. TESTFLAGS are added to go test's.
.PHONY: test
test: servers $(BIN)/gotestsum ## all tests, with real servers
	@mkdir -p $(CACHE)
	# The longest package begins first: the others run beside it.
	PATH="$$PATH:/usr/sbin" $(BIN)/gotestsum --format pkgname --jsonfile $(CACHE)/test.json -- -race -shuffle=on -timeout 40m $(TESTFLAGS) ./e2e ./...

.PHONY: e2e
e2e: servers $(BIN)/gotestsum ## only the end-to-end tests, each by name
	PATH="$$PATH:/usr/sbin" $(BIN)/gotestsum --format testname -- -shuffle=on -timeout 40m $(TESTFLAGS) ./e2e

.PHONY: e2e-clone
e2e-clone: servers ## the fault matrix: more than a thousand clones, each disturbed at another place, or SAMPLE=3: every third; as root
	@mkdir -p $(CACHE)
	cd e2e/faults && PATH="$$PATH:/usr/sbin" SAMPLE=$(SAMPLE) go test -count=1 -tags=faults -parallel=3 -timeout 30m $(TESTFLAGS) | tee $(CURDIR)/$(CACHE)/e2e-clone.log
	@grep '^e2e-clone: ' $(CACHE)/e2e-clone.log

.PHONY: e2e-replication
e2e-replication: servers ## every row of the table above Decide, provoked on MariaDB and MySQL
	@mkdir -p $(CACHE)
	PATH="$$PATH:/usr/sbin" go test -count=1 -tags=replication -v -timeout 30m $(TESTFLAGS) ./e2e/replication | tee $(CACHE)/e2e-replication.log || \
		{ echo; echo "what failed:"; awk '/^ +[a-z_]+_test\.go:[0-9]+: / { left = /: [0-9.]+ s$$/ || /:$$/ ? 0 : 4 } /^ *--- FAIL/ { left = 1 } left-- > 0 { print substr($$0, 1, 400) }' $(CACHE)/e2e-replication.log; exit 1; }
	@grep '^e2e-replication: ' $(CACHE)/e2e-replication.log

.PHONY: e2e-failover
e2e-failover: servers ## sets whose primary the Lease names, under faults by chance, with a real API server; ENGINE=mysql, mariadb or mariadb-11.8, ROUNDS=, SEED=; as root
	e2e/cluster/build.sh
	@mkdir -p $(CACHE)
	PATH="$$PATH:/usr/sbin" go test -count=1 -tags=failover -v -timeout $(if $(ROUNDS),0,30m) $(TESTFLAGS) ./e2e/failover ./k8s | tee $(CACHE)/e2e-failover.log
	@grep '^e2e-failover: ' $(CACHE)/e2e-failover.log

.PHONY: e2e-cluster
e2e-cluster: ## the manifests on a real Kubernetes, as root; builds it the first time; ENGINE=mysql, mariadb, lease or lease-mariadb; KEEP=1 leaves it running
	@mkdir -p $(CACHE)
	$(if $(filter %mariadb,$(ENGINE)),,e2e/testserver/packages.sh $(MYSQL))
	ENGINE=$(ENGINE) KEEP=$(KEEP) e2e/cluster/run.sh -v -run TestScenarios $(TESTFLAGS) | tee $(CACHE)/e2e-cluster.log
	@grep '^e2e-cluster: ' $(CACHE)/e2e-cluster.log

.PHONY: e2e-cluster-smoke
e2e-cluster-smoke: ## the test cluster itself, without understudy
	ENGINE=mariadb e2e/cluster/run.sh -v -run TestSmoke $(TESTFLAGS)

# Too slow for every change: longer tests of replication, with the race detector, the whole fault matrix, and the sets of
# MySQL on the cluster.
.PHONY: e2e-full
e2e-full: servers ## the longest end-to-end tests, all faults, and the sets of MySQL on Kubernetes, as root
	PATH="$$PATH:/usr/sbin" go test -race -count=1 -tags=full -timeout 30m -run '^Test(Copied|First|MySQLKilled|Passwords|Pause|Reseed|SemiSync|Verify)' -v $(TESTFLAGS) ./e2e
	go test -count=1 -tags=full -timeout 30m -run '^TestSimulation' $(TESTFLAGS) ./replicate/failover
	$(MAKE) e2e-clone
	$(MAKE) e2e-cluster-smoke
	$(MAKE) e2e-cluster ENGINE=mysql
	$(MAKE) e2e-cluster ENGINE=lease
	$(MAKE) e2e-cluster ENGINE=lease-mariadb

.PHONY: soak
soak: servers ## a sidecar that is scraped each second: its memory must not grow; SOAK=1h TABLES=300000
	PATH="$$PATH:/usr/sbin" SOAK=$(SOAK) TABLES=$(TABLES) go test -count=1 -tags=soak -v -timeout 0 $(TESTFLAGS) ./e2e/soak

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s)
	go test ./clone/xbstream -run '^$$' -fuzz '^FuzzReader$$' -fuzztime $(or $(FUZZTIME),30s)
	go test ./clone/xbstream -run '^$$' -fuzz '^FuzzExtract$$' -fuzztime $(or $(FUZZTIME),30s)
	go test ./clone/wire -run '^$$' -fuzz '^FuzzStripe$$' -fuzztime $(or $(FUZZTIME),30s)
	go test ./clone/mysqlwire -run '^$$' -fuzz '^FuzzDescriptor$$' -fuzztime $(or $(FUZZTIME),30s)
	go test ./clone/mysqlwire -run '^$$' -fuzz '^FuzzAnswers$$' -fuzztime $(or $(FUZZTIME),30s)
	go test ./clone/engine -run '^$$' -fuzz '^FuzzChanges$$' -fuzztime $(or $(FUZZTIME),30s)
	go test ./replicate/gtid -run '^$$' -fuzz '^FuzzSet$$' -fuzztime $(or $(FUZZTIME),30s)
	go test ./replicate/gtid -run '^$$' -fuzz '^FuzzMariaDB$$' -fuzztime $(or $(FUZZTIME),30s)

.PHONY: bench
bench: ## the stream's path, from memory and to disk; large GTID sets
	go test ./clone/xbstream ./replicate/gtid -run '^$$' -bench . -benchmem

.PHONY: bench-clone
bench-clone: build servers ## clones of both servers against other ways to copy them; ENGINE=mysql SIZE=2GiB RUNS=5 PARALLEL=4 DISTANCE=1ms,20ms,150ms TABLES=300000 BASE=HEAD~10
	@go build -o $(BIN)/bench-clone ./e2e/bench
	@$(if $(BASE),rm -rf $(CACHE)/base && mkdir -p $(CACHE)/base && git archive $(BASE) | tar -x -C $(CACHE)/base && cd $(CACHE)/base && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(BIN)/understudy-base ./cmd/understudy && rm -rf $(CURDIR)/$(CACHE)/base)
	@PATH="$$PATH:/usr/sbin" $(BIN)/bench-clone -binary $(BIN)/understudy -dir $(CACHE) -size $(or $(SIZE),2GiB) -runs $(or $(RUNS),5) $(if $(ENGINE),-engine $(ENGINE)) $(if $(PARALLEL),-parallel $(PARALLEL)) $(if $(DISTANCE),-distance $(DISTANCE)) $(if $(TABLES),-tables $(TABLES)) $(if $(BASE),-base $(BIN)/understudy-base) $(if $(REPORT),-o $(REPORT))

.PHONY: lint
lint: $(BIN)/golangci-lint $(BIN)/misspell ## the linters of .golangci.yml; spelling and links of documents; scripts
	$(BIN)/golangci-lint run ./...
	cd e2e/cluster && $(CURDIR)/$(BIN)/golangci-lint run ./...
	git ls-files '*.md' | xargs $(BIN)/misspell -error
	go test -run '^TestLinks$$' ./cmd/understudy
	@if command -v shellcheck > /dev/null; then git ls-files '*.sh' .ci/run | xargs shellcheck; else echo "shellcheck is not installed: scripts are not checked"; fi

.PHONY: docs
docs: ## write the generated sections of docs/reference.md
	go test ./cmd/understudy -count=1 -run '^TestReference$$' -update

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## format all Go files
	$(BIN)/golangci-lint fmt ./...

.PHONY: clean
clean: ## remove what was built; servers and tools that were fetched stay in .cache
	rm -rf $(BIN)

$(BIN)/golangci-lint: Makefile
	GOBIN=$(CURDIR)/$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@touch $@

$(BIN)/misspell: Makefile
	GOBIN=$(CURDIR)/$(BIN) go install github.com/golangci/misspell/cmd/misspell@$(MISSPELL_VERSION)
	@touch $@

$(BIN)/gotestsum: Makefile
	GOBIN=$(CURDIR)/$(BIN) go install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)
	@touch $@
