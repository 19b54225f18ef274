# The two commands of the README, and what keeps the project healthy.
# makes the environment: `make PYTHON=…`, or the newest that runs and can (shims may do neither)
PYTHON ?= python3.14 python3.13 python3.12 python3.11 python3
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

FITS := import sys, importlib.util; v = sys.version_info[:2]; sys.exit( \
	"is Python %d.%d" % v if not (3, 11) <= v <= (3, 14) else \
	None if importlib.util.find_spec("ensurepip") else "lacks ensurepip: apt install python3-venv")

$(VENV)/bin/python:
	@for python in $(PYTHON); do \
	    if said=$$($$python -c '$(FITS)' 2>&1); then \
	        echo "$$python -m venv $(VENV)"; exec $$python -m venv $(VENV); \
	    fi; \
	    tried="$$tried$$(echo "$$python: $$said" | head -n 1)\n"; \
	done; \
	printf 'facefold needs Python 3.11 to 3.14; of those tried, none does:\n%b' "$$tried" >&2; \
	echo "install one (apt install python3 python3-venv), or name one: make PYTHON=python3.13" >&2; \
	exit 1

INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --no-compile -e '.[test]' || $(INSTALL) --no-compile -e '.[test-without-open3d]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
