# Everything a person needs to type. Wants make and a Python >= 3.11 with venv; uses uv where it is present.

VENV ?= .venv
PY    = $(VENV)/bin/python
# Absolute: targets run programs from other folders.
BIN   = $(abspath $(VENV))/bin
SRC   = corpusmill workers tasks scheduler migrations tests benchmarks examples docs/generate.py
# Twice the cores of a small machine: half of what tests do is to wait for processes, leases and answers.
PYTEST_WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow faults chaos soak check format bench docs lock clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## Make a virtual environment with all that the project needs

demo: $(VENV)/.installed  ## Run the main job on this repository's own documents, against the bundled endpoint
	@$(BIN)/corpusmill demo

# Hundreds of processes are started: without bytecode on the disk each would compile all that it imports.
test: $(VENV)/.installed  ## Run the tests
	env -u PYTHONDONTWRITEBYTECODE $(PY) -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

test-slow: $(VENV)/.installed  ## Run the tests that are too long for `make test`
	$(PY) -m pytest -m slow -n 0

faults: $(VENV)/.installed  ## Run every test that breaks something, the long ones too, and print its figures
	$(PY) -m pytest -m fault -s -n 0

SEED  ?= 1
SEEDS ?= 1
ITEMS ?= 2000
chaos: $(VENV)/.installed  ## Everything fails at random: one seed (SEED=7), or the first so many that are not done yet (SEEDS=100)
	$(PY) -m tests.faults.series --seed $(SEED) --seeds $(SEEDS) --items $(ITEMS) $(CHAOS)

MINUTES ?= 30
soak: $(VENV)/.installed  ## Two workers at full speed for so long (MINUTES=30): does memory, do files or Redis keys grow?
	$(PY) -m tests.faults.soak --minutes $(MINUTES)

check: $(VENV)/.installed  ## Lint, format, types, import rules
	$(BIN)/ruff check $(SRC)
	$(BIN)/ruff format --check $(SRC)
	$(PY) -m mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## Put the code into the house's format
	$(BIN)/ruff check --fix $(SRC)
	$(BIN)/ruff format $(SRC)

bench: $(VENV)/.installed  ## Measure ours and other clients (BENCH=--full: five turns, a million items, five million submitted; --resume goes on)
	$(PY) -m benchmarks $(BENCH)

docs: $(VENV)/.installed  ## Write the reference pages from the code
	$(PY) docs/generate.py

lock:  ## Pin every dependency anew, with hashes (wants uv)
	uv pip compile --universal --generate-hashes --extra postgres --extra parquet --extra dev --no-annotate --no-header --python-version 3.11 \
		--quiet --no-emit-index-url --output-file requirements.lock pyproject.toml

clean:  ## Remove the virtual environment and all that tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

$(VENV)/.installed: pyproject.toml requirements.lock
	@sh .ci/install "$(VENV)"
	@touch $@
