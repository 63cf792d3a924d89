# The front door. `make help` lists what there is; the work is done by the scripts in hack/.

SHELL := /bin/bash
.DEFAULT_GOAL := help

export PADDOCK_CACHE ?= $(HOME)/.cache/paddock
export CARGO_TARGET_DIR ?= $(PADDOCK_CACHE)/target

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  MODEL_BASE_URL, MODEL and MODEL_API_KEY make 'up' and 'demo' use that model instead of the scripted one."
	@echo "  PADDOCK_CACHE ($(PADDOCK_CACHE)) keeps tools, images and builds."

.PHONY: demo
demo: ## Build all, boot a local Kubernetes, install Paddock, and show a session answering
	@hack/demo.sh

.PHONY: up
up: ## The same without the session
	@hack/up.sh

.PHONY: down
down: ## Take the local cluster down; nothing of it stays
	@hack/down.sh

.PHONY: test
test: ## Every test there is, those on a real cluster included
	@hack/test.sh

.PHONY: mutations
mutations: ## Plant bugs, one after another, and see each of them caught
	@hack/mutations.sh

.PHONY: bench
bench: ## Measure the controller beside agent-sandbox (most of an hour) and write docs/benchmarks.md
	@hack/bench.sh

.PHONY: bench-gateway
bench-gateway: ## Measure the gateway beside nginx and haproxy (minutes) and write docs/benchmarks-gateway.md
	@hack/bench-gateway.sh

.PHONY: bench-harnesses
bench-harnesses: ## Measure the harnesses on the local cluster (minutes) and write docs/benchmarks-harnesses.md
	@hack/bench-harnesses.sh

.PHONY: build
build: ## Build the programs, static and optimised
	@hack/setup.sh
	@hack/build.sh

.PHONY: images
images: ## Build the images into OCI archives
	@hack/setup.sh
	@hack/images.sh

.PHONY: generate
generate: ## Write the CRDs and the OpenAPI document from the Rust types
	cargo run --locked --quiet --package paddock-api --features crdgen --bin crdgen -- crds
	cargo run --locked --quiet --package paddock-gateway --features openapigen --bin openapigen -- docs/openapi.json

.PHONY: lint
lint: ## Formatting, clippy, cargo-deny, shellcheck, chart
	@hack/lint.sh

.PHONY: fmt
fmt: ## Format the Rust and Go sources
	cargo fmt --all
	gofmt -w tests/cluster

.PHONY: ci
ci: ## What CI runs
	@.ci/run
