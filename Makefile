# Two targets do everything on a fresh machine: `make run` and `make test`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test soak alerts up down status logs drill audit bench faults tools build fmt lint needs-code

LOCAL := $(or $(TRUEUP_LOCAL),$(CURDIR)/.local)
STACK_BIN := target/release/trueup-stack
CARGO_BINS := -p trueup -p stack -p coupon-gateway -p issue-consumer -p reconciler -p payment-reconciler -p pg-simulator
FAULT_BINS := -p faults -p coupon-gateway -p issue-consumer -p reconciler \
  --features coupon-gateway/failpoints,issue-consumer/failpoints,reconciler/failpoints
ENV := set -a; . $(LOCAL)/trueup.env; set +a;

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16
	@echo
	@echo '  make run ONCE=1 MEMBERS=5000 SEATS=100   ends by itself; the exit status is the verdict'
	@echo '  make drill CODE=my-coupon MEMBERS=1000   a drill on a running stack'
	@echo '  POSTGRES_PORT=25432 make up              another port; see trueup-stack --help for all'

run: build ## Start everything, drill and audit two coupons and the payment line; stays up until Ctrl-C (ONCE=1: ends by itself)
	@$(STACK_BIN) run $(if $(ONCE),--once)

test: tools ## Everything that CI runs: format, lints, docs, contracts, licences, all tests on real servers
	@deploy/local/test.sh

soak: tools ## The tests that take too long for each commit: deep worlds of the model, 1,000 new interleavings of payments
	cargo test -p model --test it -- --ignored --test-threads 1
	cargo test -p payment-reconciler --test it a_thousand_interleavings -- --ignored --nocapture

alerts: tools ## Check the alerts' rules and play their cases
	@PATH="$(LOCAL)/tools/bin:$$PATH" deploy/alerts/check.sh

up: build ## Start servers and services
	@$(STACK_BIN) up

down: ## End them; no process is left
	@if [ -x $(STACK_BIN) ]; then $(STACK_BIN) down; else echo 'nothing is built, so nothing runs'; fi

status: ## What runs
	@if [ -x $(STACK_BIN) ]; then $(STACK_BIN) status; else echo 'nothing is built, so nothing runs; start it by `make up`'; fi

logs: ## The end of the logs (NAME=issue-consumer-1 for one)
	@if [ -x $(STACK_BIN) ]; then $(STACK_BIN) logs $(NAME); else echo 'nothing is built, so nothing was logged'; fi

drill: needs-code up ## Send a drill to CODE
	@$(ENV) target/release/trueup drill $(CODE) --members $(or $(MEMBERS),20000)

audit: needs-code up ## Prove CODE: fold the log again and compare
	@$(ENV) target/release/trueup audit $(CODE)

needs-code:
	@[ -n '$(CODE)' ] || { echo 'say which coupon, such as make $(firstword $(MAKECMDGOALS)) CODE=my-coupon'; exit 2; }

bench: tools build ## Ratios against ceilings measured in the same run, into docs/benchmarks*.md
	@cargo build --release -p bench
	@target/release/trueup-bench

faults: tools ## Break a private line by seed and judge what is left (SEED=1 ROUNDS=1 FAULT=7,9+11 PAIRS=1 EARNEST=1 ARGS=--help)
	@cargo build $(FAULT_BINS)
	@target/debug/trueup-faults --seed $(or $(SEED),1) --rounds $(or $(ROUNDS),1) $(if $(FAULT),--fault $(FAULT)) \
	  $(if $(PAIRS),--pairs) $(if $(EARNEST),--earnest) $(ARGS)

tools: ## Install what is missing: Debian packages (as root), Kafka's jars, buf
	@deploy/local/install.sh

build: tools ## Build the release binaries
	@echo '→ release binaries (5 to 10 minutes the first time)'
	@cargo build --release $(CARGO_BINS)

fmt: ## Format Rust and protobuf
	@cargo fmt --all
	@$(LOCAL)/tools/bin/buf format -w proto

lint: ## Clippy with all warnings denied
	@cargo clippy --workspace --all-targets -- -D warnings
