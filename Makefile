# Every target sets up what it needs: Python 3.11 or newer and a package index are enough.
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    ?= .venv
BIN     := $(VENV)/bin
WORKERS ?= 2
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# one thread a process: the processes share the cores, and results do not depend on their number
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test lint docs check format base benchmark clean

help:
	@echo "make demo       install, then run the whole method on the embedded set"
	@echo "make test       install, then run the tests"
	@echo "make lint       format, style, types and import floors"
	@echo "make docs       the documentation as a site, into build/site"
	@echo "make check      lint, docs and test: all that CI runs"
	@echo "make format     put the code into the format that lint asks for"
	@echo "make base       train the embedded base model again, into build/base"
	@echo "make benchmark  the controls on faces, into build/benchmark"
	@echo "make clean      remove environment, caches and built things"

demo: $(VENV)/core.stamp
	$(BIN)/invdiff demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A broken link, anchor or formula ends it, and a page that would load something from elsewhere.
# Not with --quiet, which would hide the warnings from --strict.
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

check: lint docs test

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

base: $(VENV)/core.stamp
	$(BIN)/python -m invdiff.studies.toy_models --out build/base

benchmark: $(VENV)/core.stamp
	$(BIN)/invdiff benchmark run faces --seeds 3 --out build/benchmark

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "InvDiff needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# installed in place (-e): a changed source file needs no new install
$(VENV)/core.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/core.stamp

$(VENV)/docs.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[docs]'
	@touch $@ $(VENV)/core.stamp
