# make demo   watch the main job run       make test   run every check and test
# make setup  install into .venv           make check  lint, types and import contracts
# make test-long  the tests that take minutes each, one after the other
# make bench  the benchmarks (minutes)     make clean  remove .venv and caches
# make golden write the snapshots of Envoy's resources anew: `git diff` shows what a change does to routing
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test test-long setup check bench golden clean
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "headend needs Python 3.11, this is " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing headend and its parts into $(VENV) (about 1.5 GB, some minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/python -m serving.demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n 3 --durations=30 -m "not long"

test-long: setup
	$(BIN)/python -m pytest -m long

golden: setup
	HEADEND_UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/serving/router/test_golden_fleets.py

bench: setup
	$(BIN)/python -m loadtests.bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
