# make help lists the targets.
SHELL := /bin/sh
LINT  := go tool -modfile=.tools/go.mod golangci-lint

.DEFAULT_GOAL := help
.PHONY: help build stage start run services host test fuzz race prove bench lint fmt check ci clean needs dist/devstack

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/gateway for this machine
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$$(git describe --always --dirty --tags 2>/dev/null || echo dev)" -o bin/gateway ./handler

stage: dist/devstack ## dist/app and dist/app.zip, as deployed (linux/amd64)
	@dist/devstack stage

start: dist/devstack ## stage for this machine, then func start (Azure Functions Core Tools)
	dist/devstack stage --here
	func start --script-root dist/app

run: dist/devstack ## the whole thing on this machine: storage, two regions, the gateway
	@dist/devstack run

services: build dist/devstack ## everything but the gateway; settings in dist/dev.env
	@dist/devstack services

host: dist/devstack ## only the stand-in for the Functions host, over dist/app
	@dist/devstack host

# A program of its own, not `go run`, which would die of a signal and leave it behind.
dist/devstack:
	@go build -o $@ ./handler/devstack

test: needs ## all suites, timed loops cut short
	go test -timeout 20m ./...
	@$(MAKE) --no-print-directory fuzz

# A target at a time, as go test wants it; minimising would take most of the time.
fuzz: ## every fuzz target, a few seconds each
	@grep -rno --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' handler | sed 's|^\(.*\)/[^/]*:[0-9]*:func |\1 |' | sort | while read -r dir name; do \
	  go test -run '^$$' -fuzz "^$$name\$$" -fuzztime 3s -fuzzminimizetime 0x "./$$dir" || exit 1; done

race: needs ## all suites under the race detector, but those of real processes (needs a C compiler)
	go test -race -timeout 20m -skip 'Processes|Killed|Trouble' $$(go list ./... | grep -v /tests/clients)

prove: needs ## the timed loops at full length, their figures printed
	PROVE=1 go test -timeout 60m -count=1 -v -run 'Killed|Processes|Outage|Trouble' ./handler/tests/process

bench: ## costs as ratios against a bare reverse proxy in the same run
	go test -run '^$$' -bench . -benchmem ./handler/...

# What must be on the machine, said at once rather than by a test ten minutes later.
needs:
	@for tool in go node npm python3; do command -v $$tool >/dev/null || \
	  { echo "$$tool is missing. Debian and Ubuntu: apt-get install golang nodejs npm python3 python3-venv; Go must be 1.26 or newer."; exit 1; }; done
	@java -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])' || { echo "Java 17 or newer is missing. Debian and Ubuntu: apt-get install openjdk-17-jre-headless"; exit 1; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing. Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

lint: ## golangci-lint
	$(LINT) run ./...

fmt: ## format
	$(LINT) fmt ./...

check: dist/devstack ## fails on anything that a tool would change, or that could not be deployed
	go mod tidy -diff
	go fix -stringsbuilder=false -diff ./...
	$(LINT) fmt --diff ./...
	dist/devstack check
	@if [ -f $(BICEP_TYPES)/check.mjs ]; then mkdir -p dist/bicep && cp $(BICEP_TYPES)/*.* dist/bicep/ && \
	  npm ci --prefix dist/bicep --silent --no-fund --no-audit && node dist/bicep/check.mjs infra; fi

# A checker with more of Azure's types than ours, where one lies beside the project.
BICEP_TYPES ?= ../shared/bicep

ci: test race lint check ## what continuous integration runs

clean: ## remove what was built and stored
	rm -rf bin dist
