# make help lists the targets.
SHELL := /bin/sh
LINT  := go tool -modfile=.tools/go.mod golangci-lint
CI    := go tool -modfile=.tools/ci.mod
VERSION ?= $(shell git describe --always --dirty --tags 2>/dev/null || echo dev)

.DEFAULT_GOAL := help
.PHONY: help build stage start run services host test test-go fuzz race prove bench lint fmt check vuln release clean needs dist/devstack

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/gateway for this machine (TAGS=pprof adds profiles on 127.0.0.1:6060)
	CGO_ENABLED=0 go build -trimpath -tags "$(TAGS)" -ldflags "-X main.version=$(VERSION)" -o bin/gateway ./handler

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

# What -short leaves out: tests that need Node, Python or Java.
NEEDS_MORE  := /(audit|blob|journal|quota|table|devstack/(azurite|stack|template)|tests/(clients|process|queries))$$

test: needs test-go ## all suites, timed loops cut short
	go test -timeout 20m $$(go list ./... | grep -E '$(NEEDS_MORE)')
	go test -timeout 20m -run 'WireMock|AIMock' ./handler/tests/e2e
	@$(MAKE) --no-print-directory fuzz

test-go: ## what needs only Go
	go test -short -timeout 20m $$(go list ./... | grep -vE '/(devstack/(stack|template)|tests/(clients|process|queries))$$')

# A target at a time, as go test wants it; minimising would take most of the time. A number of
# inputs, because a time limit sometimes fails a target with "context deadline exceeded".
fuzz: ## every fuzz target, a few seconds each
	@grep -rno --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' handler | sed 's|^\(.*\)/[^/]*:[0-9]*:func |\1 |' | sort | while read -r dir name; do \
	  go test -run '^$$' -fuzz "^$$name\$$" -fuzztime 10000x -fuzzminimizetime 0x "./$$dir" || exit 1; done

# The stand-ins, and suites that test other programs or the gateway's binary, are left out: CI's time is limited.
race: needs ## the suites of this program's own code under the race detector (needs a C compiler)
	go test -race -timeout 20m $$(go list ./... | grep -vE '/(devstack|tests/(clients|process|queries|rules))(/|$$)')

prove: needs ## the timed loops at full length, their figures printed
	PROVE=1 go test -timeout 60m -count=1 -v -run 'Kill|Processes|Outage|Trouble|Host|Bodies' ./handler/tests/process

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
	GOOS=windows go vet ./...
	$(CI) actionlint

vuln: ## known vulnerabilities in the dependencies and in Go (asks vuln.go.dev)
	$(CI) govulncheck ./...

PLATFORMS := linux/amd64 linux/arm64 darwin/arm64 windows/amd64

release: dist/devstack ## dist/release: binaries, deployment package, SBOM, checksums (VERSION=v1.2.3)
	rm -rf dist/release && mkdir -p dist/release
	@for p in $(PLATFORMS); do os=$${p%/*}; arch=$${p#*/}; name=gateway; [ $$os = windows ] && name=gateway.exe; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o dist/release/$$os-$$arch/$$name ./handler && \
	  tar -C dist/release/$$os-$$arch -czf dist/release/gateway-$(VERSION)-$$os-$$arch.tar.gz $$name && rm -r dist/release/$$os-$$arch || exit 1; done
	dist/devstack stage && cp dist/app.zip dist/release/gateway-$(VERSION)-functions.zip
	$(CI) cyclonedx-gomod mod -json -output dist/release/gateway-$(VERSION).cdx.json
	cd dist/release && sha256sum * > SHA256SUMS

clean: ## remove what was built and stored
	rm -rf bin dist
