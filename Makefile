# Everything this project does, from an empty clone on. `make demo` and `make test` set up what they need.
#
#   make demo     the whole story on real parts: Kafka, Redis, a Go service, a Rust service, failures, replay, audit
#   make test     lint, types, layers, and all tests but the long ones
#   make soak     what `make test` leaves out for its length: every fault, every way to end the demo, and simulations
#                 from a random seed on, for SIMULATION_SECONDS (600)
#   make bench    broker_bridge beside what one would write instead: figures, checked, in about ten minutes
#   make compiled a wheel whose hot path is C, in dist/ (needs a C compiler)
#   make check    the quick part of `make test`: no servers

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ORDERS := examples/orders
PAYMENTS := examples/payments
SIMULATION_SECONDS ?= 600
BENCH ?= --quick

.PHONY: demo test soak check lint unit servers pages chaos go rust bench compiled setup clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n 's/^#   make/  make/p' Makefile

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "broker_bridge needs Python 3.11 or later; name one with: make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,speed]'
	@touch $@

demo: setup
	@$(BIN)/python examples/demo

# Tests on servers mostly wait for them: all else is done meanwhile, one thing at a time.
test: setup
	@$(MAKE) --no-print-directory -j2 servers lint unit chaos go rust pages
	@echo "all of it passed"

check: lint unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/broker-bridge schemas check
	$(BIN)/broker-bridge schemas lint --strict
	$(BIN)/broker-bridge schemas model shop.OrderPlaced --check examples.python.order_placed:OrderPlaced
	$(BIN)/broker-bridge schemas model shop.PaymentCaptured --check examples.python.payment_captured:PaymentCaptured
	$(BIN)/broker-bridge schemas golden --check

unit: setup
	$(BIN)/python -m pytest tests/unit tests/simulation

servers: setup
	$(BIN)/python -m pytest tests/contract tests/integration tests/cli tests/interop

pages: setup
	$(BIN)/python -m pytest tests/docs

chaos: setup
	$(BIN)/python -m pytest tests/chaos

soak: setup
	$(BIN)/python tests/simulation --seconds $(SIMULATION_SECONDS)
	$(BIN)/python -m pytest tests -m soak

go:
	cd $(ORDERS) && test -z "$$(gofmt -l .)" && go vet ./... && go test ./...

rust: export MAKEFLAGS =
rust:
	cd $(PAYMENTS) && cargo fmt --check && cargo clippy --quiet --all-targets --features kafka -- -D warnings \
	  && cargo test --quiet --workspace --features kafka

bench: $(VENV)/.bench-ready
	$(BIN)/python benchmarks $(BENCH)

$(VENV)/.bench-ready: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

compiled: setup
	rm -rf dist && $(BIN)/python -m hatchling build -t sdist
	HATCH_BUILD_HOOK_ENABLE_MYPYC=1 PIP_CONSTRAINT=constraints.txt \
	  $(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist dist/broker_bridge-*.tar.gz
	@ls dist/*.whl

clean:
	rm -rf dist $(VENV) .bridge $(PAYMENTS)/target $(ORDERS)/orders benchmarks/go/peer .mypy_cache .ruff_cache .pytest_cache .hypothesis
