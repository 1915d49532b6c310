# `make train`: a virtual environment, the package, and a first training run. `make test`: the same, and the tests.
# On a machine with a GPU, or with torch already installed, leave the constraint out: make train CONSTRAINT=
PYTHON ?= python3
CONSTRAINT ?= -c constraints.txt
BIN = .venv/bin

.PHONY: train test check clean

train: .venv/installed
	$(BIN)/sagan train --preset quick

test: .venv/installed-test
	$(BIN)/python -m pytest -q -n 2

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q $(CONSTRAINT) -e .
	touch $@

.venv/installed-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q $(CONSTRAINT) -e '.[$*]'
	touch $@

clean:
	rm -rf .venv
