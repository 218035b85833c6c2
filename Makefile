.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made
CHECKED := $(VENV)/.check
PATHS := runnable tests examples benchmarks docs/generate.py

.PHONY: help demo test trust simulate soak check fix docs bench bench-peers clean

help:  ## Print what can be done
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(MADE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(CHECKED): pyproject.toml $(MADE)
	$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	@touch $@

demo: $(MADE)  ## Watch a web app stream, its clients leave, its server die; KEEP=1 leaves its page open
	@$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

test: $(MADE)  ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(CHECKED)  ## Format, lint, types, layers
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

fix: $(CHECKED)  ## Mend what format and lint can mend
	$(BIN)/ruff format $(PATHS)
	$(BIN)/ruff check --fix $(PATHS)

trust: $(MADE)  ## Prove in full what is promised: crashes, owners, signals, pressure
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/trust tests/integration/test_kill.py --full --durations 40 --timeout 1500

simulate: $(MADE)  ## Simulate runs through faults: make simulate SEEDS=20000 FIRST=0
	$(BIN)/python -m pytest tests/trust/test_simulation.py -k three -s --timeout 0 --seeds $(or $(SEEDS),20000) --first-seed $(or $(FIRST),0)

docs: $(MADE)  ## Write the reference pages that are made from the code
	$(BIN)/python docs/generate.py

soak: $(MADE)  ## Let a process live long, and see what it holds: make soak MINUTES=120 SEED=0
	$(BIN)/python -m tests.trust.soak --minutes $(or $(MINUTES),120) --seed $(or $(SEED),0)

bench: $(MADE)  ## Measure the budgets, beside the bare limits
	$(BIN)/python -m benchmarks

bench-peers: $(MADE)  ## Measure beside other libraries, each in its own environment
	$(BIN)/python -m benchmarks.peers

clean:  ## Remove the environments and what tools left
	rm -rf $(VENV) .venv-peers .pytest_cache .ruff_cache .hypothesis .import_linter_cache
