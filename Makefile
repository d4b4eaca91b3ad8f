# What one does with this tree. `make` alone lists it; every word does all its own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The gate needs Python 3.11; another one is named as in `make test PYTHON=python3.13 VENV=.venv-3.13`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Ready when this file is younger than what it was made from; so are the libraries that only integration tests use, what
# builds the site, and what the benchmark measures beside outgate.
READY := $(VENV)/.ready
LIBRARIES := $(VENV)/.libraries
DOCS := $(VENV)/.docs
BENCH := $(VENV)/.bench
# Containers set this. Then each of the thousands of interpreters that the tests start would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
DEV_GROUPS := tests lint typing examples
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
# Of tests that start programs, half as many again as there are cores: they wait for a third of their time.
BUSY := $(shell echo $$(($$(nproc) * 3 / 2)))

.PHONY: help
help: ## list these words
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: $(READY) ## show the news reader: an open session goes from process to process (no internet, under a minute)
	@$(BIN)/python examples/demo.py

.PHONY: tour
tour: $(READY) ## show the main job: a gate, three unmodified programs, one refusal (no internet, under a minute)
	@$(BIN)/python examples/tour.py

.PHONY: test
test: $(READY) ## the fast suite: no root, no packages, a minute on four cores
	$(PYTEST) -m 'not integration and not pythons and not slow and not full' --numprocesses auto --dist worksteal

.PHONY: lint
lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: programs
programs: $(LIBRARIES) ## whole programs as users start them, other Pythons, slow tests (no root, minutes)
	$(PYTEST) -m '(pythons or slow) and not integration and not full' --numprocesses $(BUSY) --dist worksteal

.PHONY: integration
integration: $(LIBRARIES) ## real servers in namespaces (root, Debian packages)
	$(PYTEST) -m 'integration and not full' --numprocesses 4 --dist loadfile

.PHONY: attacks
attacks: $(LIBRARIES) ## try every attack on a guard, and write what came of it into docs (root, Debian packages)
	OUTGATE_REQUIRE_INTEGRATION=1 OUTGATE_RECORD_ATTACKS=1 $(PYTEST) $(wildcard $(addprefix tests/integration/test_,\
		guard_attacks.py guard_races.py guard.py guard_names.py seal.py seal_kernel.py sandboxes.py))
	$(BIN)/python docs/generate.py --write

.PHONY: cpython
cpython: $(READY) ## CPython's own tests through a gate, on 3.11 to 3.13, into docs/data (no root, minutes)
	@for python in $$($(BIN)/python tests/support/pythons.py 3.11 3.12 3.13); do \
		$(BIN)/python tests/cpython/run.py --python $$python --record; \
	done
	$(BIN)/python docs/generate.py --write

.PHONY: check
check: lint test programs integration docs ## what CI runs: lint, types, all tests but check-full's, the site

.PHONY: check-full
check-full: $(LIBRARIES) ## check, and other Pythons, CPython's tests, more examples per property, the benchmark; or PARTS="deep"
	@$(BIN)/python tests/full.py $(PARTS)

.PHONY: bench
bench: $(BENCH) ## measure beside native sockets and every peer, into bench/results; QUICK=1, RECORD=1 (into docs), ONLY=relay,udp
	@$(BIN)/python bench/run.py $(if $(QUICK),--quick) $(if $(RECORD),--record) $(if $(ONLY),--only $(ONLY))

.PHONY: bench-compare
bench-compare: $(READY) ## say which figure moved beyond its spread between two runs: OLD=bench/results/… NEW=bench/results/…
	@$(BIN)/python -m bench.compare $(OLD) $(NEW)

.PHONY: docs
docs: $(DOCS) ## write the pages that follow from the code, and build the site into build/site; warnings are errors
	$(BIN)/python docs/generate.py --write
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --jobs auto --doctree-dir build/doctrees -c docs . build/site

.PHONY: constraints
constraints: ## take the newest versions into constraints.txt
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(MAKE) --no-print-directory VENV="$$scratch" CONSTRAINTS=/dev/null "$$scratch/.libraries" "$$scratch/.docs" "$$scratch/.bench"; \
	{ grep '^#' constraints.txt; "$$scratch/bin/python" -m pip freeze --exclude-editable; } >"$$scratch/new"; \
	cp "$$scratch/new" constraints.txt

.PHONY: clean
clean: ## remove what was made: environments, caches, results
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

CONSTRAINTS ?= constraints.txt
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "The gate needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		if ! $(PYTHON) -m venv $(VENV) >$(VENV).log 2>&1; then \
			cat $(VENV).log >&2; rm -rf $(VENV) $(VENV).log; \
			echo "No environment could be made. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
		fi; \
		rm -f $(VENV).log; \
	fi
	@$(call requirements,$(DEV_GROUPS)) >$(VENV)/groups.txt
	@echo "installing into $(VENV)"
	@$(PIP) install --constraint $(CONSTRAINTS) --requirement $(VENV)/groups.txt --editable '.[gate,dev,console]'
	@touch $@

$(LIBRARIES): $(READY)
	@$(call requirements,libraries) >$(VENV)/libraries.txt
	@echo "installing libraries for the integration tests into $(VENV)"
	@$(PIP) install --constraint $(CONSTRAINTS) --requirement $(VENV)/libraries.txt
	@touch $@

$(BENCH): $(READY)
	@$(call requirements,bench) >$(VENV)/bench.txt
	@echo "installing what the benchmark measures into $(VENV)"
	@$(PIP) install --constraint $(CONSTRAINTS) --requirement $(VENV)/bench.txt
	@touch $@

$(DOCS): $(READY)
	@$(call requirements,docs) >$(VENV)/docs.txt
	@echo "installing what builds the site into $(VENV)"
	@$(PIP) install --constraint $(CONSTRAINTS) --requirement $(VENV)/docs.txt
	@touch $@

# The requirements of some of pyproject.toml's dependency groups, a line each.
define requirements
$(BIN)/python -c 'import pathlib, tomllib; \
	groups = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["dependency-groups"]; \
	print(*(each for name in "$(1)".split() for each in groups[name]), sep="\n")'
endef
