# Two jobs of one Makefile: what users run, and what CI runs. Both make their environment first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests run side by side, a file at a time to each worker, which has one thread of its own. Files
# are begun in the order of tests/conftest.py, the longest first.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test check lint types fast slow campaign clean help

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(STAMP)  ## Train the embedded quickstart to a judged policy; ARGS='--set seed=1' adds words
	$(BIN)/quartet run quickstart $(ARGS)

test: lint types  ## Everything that CI runs: format, lint, types, fast and slow tests
	$(PYTEST) -m 'not campaign' --durations=25

check: lint types fast  ## Format, lint, types, fast tests

lint: $(STAMP)  ## Format and lint
	$(BIN)/ruff format --check flows tasks models tests
	$(BIN)/ruff check flows tasks models tests

types: $(STAMP)  ## mypy, strict, on flows, tasks and models
	$(BIN)/mypy

fast: $(STAMP)  ## The fast tests
	$(PYTEST)

slow: $(STAMP)  ## The slow tests: crashes, real servers, the whole quickstart
	$(PYTEST) -m 'slow and not campaign' --durations=25

campaign: $(STAMP)  ## All tests of hours, before a release: more variants, controls, seeds and kills
	QUARTET_TEST_KILLS=20 QUARTET_TEST_CANCELS=20 QUARTET_TEST_CUTS=3 QUARTET_TEST_TEAM_KILLS=5 \
		$(PYTEST) -m 'slow or campaign' --durations=25

clean:  ## Remove the environment; results in .quartet stay
	rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, got " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)
