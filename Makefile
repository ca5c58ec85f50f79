# Two commands do everything: `make demo` and `make test`. Each sets up what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test quick nightly lint bench docs setup clean

setup: $(STAMP)

# torch goes first and alone: any other release of it pulls gigabytes that a CPU cannot use.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Assay needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/assay demo

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

quick: setup
	ASSAY_HYPOTHESIS=quick $(BIN)/python -m pytest -q -m 'not slow' -n 2 --dist worksteal

nightly: setup
	ASSAY_HYPOTHESIS=nightly $(BIN)/python -m pytest -q -m hypothesis -n 2 --dist worksteal --timeout 3600

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	for b in $$(ls benchmarks/*.py | grep -v /_); do $(BIN)/python $$b --quick || exit 1; done

docs: setup
	$(BIN)/python docs/build.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
