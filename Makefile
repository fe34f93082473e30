# make demo: see it work on drawn films. make test: run every check. Both set up all they need, into .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
test unit acceptance: export OMP_NUM_THREADS := 1  # two test processes share the cores; torch's own threads would fight

.PHONY: demo test check unit acceptance setup peers fairseq lock format clean

demo: setup
	$(BIN)/wetread demo --out demo-out

test: setup peers fairseq check unit acceptance

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

# The oracle of some tests; the node never needs it. No dependencies: it asks for torchaudio and would touch torch.
fairseq: setup
	@$(BIN)/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("fairseq") is None)' || READTHEDOCS=1 $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps \
	  fairseq-fixed==0.12.3.1 hydra-core==1.3.2 omegaconf==2.3.0 antlr4-python3-runtime==4.9.3 bitarray==3.12.3 sacrebleu==2.6.0 \
	  portalocker==4.4.2 tabulate==0.10.0 colorama==0.4.6 lxml==6.1.3 \
	  || echo "Could not install fairseq-fixed: the tests that compare with it will skip"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests --ignore tests/acceptance

acceptance: setup peers
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder tests/acceptance  # they wait more than they compute

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins and hashes only: no index address is written into the file.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev \
	  pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
