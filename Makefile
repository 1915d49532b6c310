# `make train`: a virtual environment, the package, and a first training run. `make test`: the same, and the tests.
# `make train` again goes on with a run that was stopped.
# On a machine with a GPU, or with torch already installed, leave the constraint out: make train CONSTRAINT=
PYTHON ?= python3
CONSTRAINT ?= -c constraints.txt
BIN = .venv/bin

.PHONY: train test check wheel docs clean

train: .venv/installed
	if [ -f runs/quick/config.json ]; then $(BIN)/sagan resume runs/quick; \
	else $(BIN)/sagan train --preset quick --run_dir runs/quick; fi

test: .venv/installed-test
	$(BIN)/python -m pytest -q -n 2

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, into site/; warnings are errors.
docs: .venv/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs site

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q $(CONSTRAINT) -e '.[features]'
	touch $@

.venv/installed-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q $(CONSTRAINT) -e '.[$*]'
	touch $@

wheel: .venv/installed
	rm -rf dist
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf .venv dist
