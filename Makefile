# `make demo` shows a mesh at work; `make test` runs every test, with a real Envoy. Both set up what they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help
help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build all programs (release) into target/release
	cargo build --release --locked --workspace --bins

.PHONY: demo
demo: ## Two services under mTLS on this machine; Ctrl-C ends it and leaves nothing behind
	@python3 scripts/demo.py

.PHONY: envoy
envoy: ## Fetch Envoy into .envoy/
	@scripts/get-envoy.sh

.PHONY: test
test: ## Run the whole suite, real Envoy included
	@scripts/test.sh

.PHONY: bench
bench: ## Measure kuma-cp with 1,000 simulated proxies (docs/performance.md); some minutes
	cargo build --release --locked -p kuma-cp -p xdsload
	target/release/xdsload run connect policy-mesh policy-service join leave endpoint new-service churn10 slow restart idle memory \
	  --repeats 10 --seconds 20 > target/bench.jsonl
	@echo "One line of JSON per scenario: target/bench.jsonl"

.PHONY: lint
lint: ## Formatting, clippy, documentation, licences and bans
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@scripts/deny.sh
