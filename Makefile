# make help lists the targets.
SHELL := /bin/sh
LINT  := go tool -modfile=.tools/go.mod golangci-lint

.DEFAULT_GOAL := help
.PHONY: help build stage start run services host test prove bench lint fmt check ci clean dist/devstack

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

test: ## all suites
	go test -timeout 20m ./...

prove: ## the timed loops at full length, with their figures
	PROVE=1 go test -v -timeout 60m -count=1 ./...

bench: ## ratios against a bare reverse proxy
	go test -run '^$$' -bench . -benchmem ./...

lint: ## golangci-lint
	$(LINT) run ./...

fmt: ## format
	$(LINT) fmt ./...

check: ## fails on anything that a tool would change
	go mod tidy -diff
	go fix -diff ./...
	$(LINT) fmt --diff ./...

ci: check lint test build ## what continuous integration runs

clean: ## remove what was built and stored
	rm -rf bin dist
