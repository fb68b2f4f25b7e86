# The commands of this repository; `make help` lists them. Plain cargo works too: cargo run -- serve --demo, cargo test.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PORT ?= 3000
TARGET := $(or $(CARGO_TARGET_DIR),target)
# A folder with the peers' benchmark harness (setup.sh, run.py); empty: our side alone.
BENCH_PEERS ?= $(patsubst %/run.py,%,$(wildcard ../shared/bench/run.py))

# A line that says what comes next.
say = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Start the service with sample calls on port 3000 (PORT=…): own Postgres, simulator, nobody's phone rings
	$(call say,what the build and the service need)
	@.ci/need build postgres tzdata ca-certificates
	$(call say,build)
	@cargo build --locked
	$(call say,outdial on http://localhost:$(PORT))
	@exec env -u OUTDIAL_CONFIG OUTDIAL_DATABASE__URL= OUTDIAL_PROVIDER__KIND=simulator OUTDIAL_SERVER__PORT=$(PORT) \
	  $(TARGET)/debug/outdial serve --demo

.PHONY: test
test: ## Everything that is checked, in order, up to the first failure
	$(call say,what the tests need)
	@.ci/need build postgres tzdata ca-certificates python
	$(call say,format)
	@cargo fmt --check
	$(call say,lints)
	@cargo clippy --locked --all-targets -- -D warnings
	$(call say,the committed descriptions of the queries)
	@.ci/sqlx --check
	$(call say,tests)
	@cargo test --locked
	$(call say,documentation)
	@RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --locked --no-deps --document-private-items --quiet
	$(call say,the API against its own document)
	@cargo build --locked --quiet
	@.ci/schemathesis
	$(call say,all is well)

.PHONY: fmt
fmt: ## Format the code
	@cargo fmt

.PHONY: sqlx
sqlx: ## Renew .sqlx after a query or migration has changed
	@.ci/need build postgres
	@.ci/sqlx

.PHONY: schema
schema: ## Renew sql/schema.sql, the schema as it is after all migrations
	@.ci/need build postgres
	@UPDATE_SCHEMA=1 cargo test --locked --test it schema

.PHONY: bench
bench: ## Measure the queue in release (BENCH_SCALE=0.1 for a short look), beside its peers if BENCH_PEERS=… is there
	@.ci/need build postgres
	@cargo build --locked --release
	@.ci/bench "$(TARGET)/release/outdial" $(BENCH_PEERS)

.PHONY: image
image: ## Build the container image
	@docker build -t call-handling-service .
