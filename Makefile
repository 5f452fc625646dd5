# `make demo` shows a mesh at work; `make test` runs every test, with a real Envoy. Both set up what they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PROGRAMS := kuma-cp kuma-dp kumactl kuma-prometheus-sd kuma-tcp-echo

.PHONY: help
help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs into target/release
	cargo build --release --locked $(addprefix -p ,$(PROGRAMS))

.PHONY: demo
demo: ## Two services under mTLS on this machine (STORE=file or postgres: kept there; PORTS=free)
	@python3 scripts/demo.py $(if $(STORE),--store $(STORE)) $(if $(PORTS),--ports $(PORTS))

.PHONY: envoy
envoy: ## Fetch Envoy into .envoy/
	@scripts/get-envoy.sh

.PHONY: test
test: ## Run the whole suite, real Envoy included
	@scripts/test.sh

.PHONY: test-fast
test-fast: ## Run the tests that need no Envoy, no Prometheus, no PostgreSQL and no firewall
	@scripts/test-fast.sh

.PHONY: soak
soak: ## Repeat the long proofs: receipts over 20 Envoys, and what stores are exposed to (about an hour)
	KUMA_TEST_ROUNDS=200 KUMA_TEST_PROXIES=20 scripts/test.sh --test it receipts::
	KUMA_TEST_ROUNDS=1000 cargo test --locked -p kuma-store-sqlite --test it crash::
	KUMA_TEST_CUTS=3000 cargo test --locked -p kuma-store-sqlite --test it power_cut::
	KUMA_TEST_FLIPS=600 cargo test --locked -p kuma-store-sqlite --test it damage::
	KUMA_TEST_ROUNDS=100 scripts/test.sh --test it failover::
	KUMA_TEST_ROUNDS=2000 scripts/test.sh --test it faults::
	KUMA_TEST_ROUNDS=100 scripts/test.sh --test it first_start::
	KUMA_TEST_OUTAGE=600 KUMA_TEST_PROXIES=20 scripts/test.sh --test it outage::
	KUMA_TEST_PARTITION=60 scripts/test.sh --test it partition::

.PHONY: bench
bench: ## Measure kuma-cp with 1,000 simulated proxies (docs/performance.md)
	cargo build --profile dist --locked -p kuma-cp -p xdsload
	target/dist/xdsload run connect policy-mesh policy-service join leave endpoint new-service \
	  churn10 churn100 slow hostile restart rotation memory --repeats 10 --seconds 30 > target/bench.jsonl
	target/dist/xdsload run idle --seconds 60 >> target/bench.jsonl
	target/dist/xdsload run documents -n 10000 -s 2000 >> target/bench.jsonl
	target/dist/xdsload run commits -n 10000 -s 2000 --repeats 1000 --seconds 5 >> target/bench.jsonl
	target/dist/xdsload run commits -n 10000 -s 2000 --repeats 1000 --seconds 5 --store file \
	  >> target/bench.jsonl
	@echo "One line of JSON per scenario: target/bench.jsonl"

.PHONY: bench-growth
bench-growth: ## Measure meshes of 100 to 15,000 proxies and the largest one, and draw the curves
	cargo build --profile dist --locked -p kuma-cp -p xdsload
	target/dist/xdsload growth > target/growth.jsonl
	target/dist/xdsload plot target/growth.jsonl --folder docs/performance
	target/dist/xdsload run largest -n 8000 --repeats 5 > target/largest.jsonl
	@echo "One line of JSON per mesh: target/growth.jsonl, target/largest.jsonl; curves: docs/performance/"

.PHONY: microbench
microbench: ## Time and count the allocations of matching, generation, encoding and sessions
	cargo bench --locked --quiet -p kuma-mesh --bench matching -p kuma-envoy --bench generation \
	  -p kuma-xds --bench session -p kuma-engine --bench engine -p kuma-cp --bench handshake

.PHONY: fuzz
fuzz: ## Fuzz what reads strangers' input, a minute per target (docs/fuzzing.md)
	@scripts/fuzz.sh 60

.PHONY: lint
lint: ## Formatting, width of lines, size of files, clippy, documentation, licences and bans
	cargo fmt --all --check
	@scripts/check-width.py
	@scripts/check-size.py
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@scripts/deny.sh
