# make demo: see it work on drawn films. make test: run every check. Both set up all they need, into .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
test unit acceptance: export OMP_NUM_THREADS := 1  # two test processes share the cores; torch's own threads would fight

.PHONY: demo test check unit acceptance setup peers lock format clean

demo: setup
	$(BIN)/wetread demo --out demo-out

test: setup peers check unit acceptance

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "WetRead needs Python 3.11 or newer; say PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirements requirements.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --editable .
	touch $@

peers:
	@bash tests/acceptance/install_peers.sh

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests --ignore tests/acceptance

acceptance: setup peers
	$(BIN)/python -m pytest -q tests/acceptance

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins and hashes only: no index address is written into the file.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev \
	  pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
