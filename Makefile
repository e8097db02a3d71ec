# `make run` and `make test` are all a newcomer needs; `make help` lists the rest.

.DEFAULT_GOAL := help
SHELL := /bin/bash
GO ?= go
LINT := $(CURDIR)/.tools/golangci-lint
# SQLite is C that was translated to Go. Watching its own memory, too, would take most of the tests' time.
UNWATCHED := -race=false -d=checkptr=0
RACE := -race -gcflags='modernc.org/sqlite/lib=$(UNWATCHED)' -gcflags='modernc.org/libc=$(UNWATCHED)'

.PHONY: help run test test-mysql test-quick lint fmt build bench chaos chaos-mysql fuzz interop console-walk galera group-replication vitess vuln docs chart outage

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

run: ## dev mode: the service with SQLite and the simulator, on loopback
	$(GO) run ./cmd/server

test: ## every test, with the race detector, on SQLite and on a private MariaDB (installed if missing and root)
	@echo "Every test, with the race detector, on SQLite and a private MariaDB: 3 minutes on two cores, to 9 where they are busy; silent until packages are done."
	LHSPN_TESTDB_STRANGE=yes scripts/testdb $(GO) test $(RACE) -timeout 12m ./...

test-mysql: ## the same on a private Oracle MySQL 9 (fetched from Debian's unstable, 65 MB, and not installed)
	LHSPN_TESTDB_STRANGE=yes scripts/mysqldb $(GO) test $(RACE) -timeout 12m ./...

test-quick: ## the tests that need no MySQL
	$(GO) test ./...

build: ## both programs into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/server ./cmd/apns-simulator

lint: $(LINT) ## gofmt, go vet and golangci-lint
	@test -z "$$(gofmt -l cmd internal migrations bench interop deploy 2>/dev/null | tee /dev/stderr)"
	$(GO) vet ./...
	$(LINT) run ./...

$(LINT): tools/go.mod
	cd tools && GOBIN=$(CURDIR)/.tools $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

outage: ## a real Prometheus with the alerts over a real outage of APNs and of the service; each panel has data (3 minutes)
	LHSPN_TEST_OUTAGE=1 $(GO) test -count=1 -v -run TestRealOutage ./cmd/server

chart: ## the Helm chart, rendered and decoded strictly, and compose.yaml (its modules take minutes to build the first time)
	cd deploy/test && $(GO) test -count=1 ./... # what it reads is outside of its module: Go would not see that it changed

vuln: ## known vulnerabilities in what the service calls (needs the public vulnerability database)
	cd tools && GOBIN=$(CURDIR)/.tools $(GO) install golang.org/x/vuln/cmd/govulncheck
	.tools/govulncheck ./...

bench: ## the benchmarks, against peers (minutes; see bench/README.md)
	bench/run.sh

chaos: ## kill -9 under load, again and again (minutes; see docs/testing.md)
	bench/chaos.sh

chaos-mysql: ## the same on Oracle MySQL 9 (minutes)
	bench/chaos.sh mysql

galera: ## three replicas on a private Galera cluster, nodes and replicas killed -9 (installed if missing and root; see bench/README.md)
	scripts/galera $(GO) test -count=1 -run TwoNodes ./internal/database ./internal/tokens
	bench/chaos.sh galera

group-replication: ## three replicas on three private MySQL 9 servers; the primary killed, changed, left alone (minutes; see bench/README.md)
	bench/chaos.sh group

STORES = ./internal/tokens ./internal/queue ./internal/sender ./internal/events ./internal/webhooks ./internal/quota ./internal/apps

vitess: ## the stores' tests on Vitess, unsharded and sharded, and three replicas on a cluster; each process killed -9 (built once; many minutes)
	scripts/vtcombo $(GO) test -count=1 -timeout 20m ./internal/database $(STORES)
	scripts/vtcombo --sharded $(GO) test -count=1 -p 1 -timeout 20m $(STORES)
	bench/chaos.sh vitess

interop: ## real third-party clients against the simulator (npm and Go modules are fetched)
	interop/run.sh

console-walk: ## headless Chromium walks the console of dev mode, and takes the pictures of docs/console (2 minutes; npm and Chromium)
	cd interop/console && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	cd interop/console && $(GO) build -o ../../bin/console-walk .
	$(GO) build -o bin/server ./cmd/server
	bin/console-walk -server bin/server -axe interop/console/node_modules/axe-core/axe.min.js -chromium "$$(command -v chromium || command -v google-chrome)" -pictures docs/console

fuzz: ## a minute on each fuzz target
	scripts/fuzz

docs: ## write the generated pages anew
	$(GO) generate ./...
