# The two commands of the README, and what keeps the project healthy.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# processes that run tests: a number, or one a core
JOBS ?= logical

.PHONY: demo test test-all check install schema clean

demo: $(VENV)/.installed
	$(BIN)/facefold demo

# installed uncompiled, as most modules are never imported: compiled where they are
test test-all check: export PYTHONDONTWRITEBYTECODE =

# tests/scheduling.py says which process runs what
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --no-loadscope-reorder

test: $(VENV)/.installed-test
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.installed-test
	$(PYTEST)

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.schema_drift

schema: $(VENV)/.installed-test
	$(BIN)/python -m tests.schema_drift --write

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"facefold needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}; name another with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
