# `make demo` and `make test` are all that is needed: each makes .venv by itself and reuses it.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
            $(shell $(p) -c 'import sys; print("$(p)" * (sys.version_info >= (3, 11)))' 2>/dev/null)) python3)
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench
DOCS := $(VENV)/.docs
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0 $(BIN)/python -m pip
PYTEST_ARGS ?=
BENCH_ARGS ?=
UPGRADE ?= --upgrade

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-cluster test-container test-faults lint boutiques bench docs audit lock clean FORCE

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: $(RUNTIME)  ## make .venv with the locked dependencies and this package, editable

setup-dev: $(DEV)  ## the same, with what tests and linters need

demo: $(RUNTIME)  ## make a small longitudinal dataset, fit it, compare with what was planted
	@$(BIN)/python -m demo.run_demo demo-out

test: $(DEV)  ## run the tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-cluster: $(DEV)  ## the same on a real Slurm and Grid Engine of this machine; see CONTRIBUTING.md
	@$(BIN)/python -m pytest -m scheduler tests/test_schedulers.py $(PYTEST_ARGS)

test-container: $(DEV)  ## build the images and run them; see containers/README.md
	@$(BIN)/python -m pytest -m container $(PYTEST_ARGS)

test-faults: $(DEV)  ## kill, fill up and fuzz whole runs: half an hour; as root, with small disks too
	@$(BIN)/python -m pytest -m faults -s $(PYTEST_ARGS)

lint: $(DEV)  ## ruff, mypy --strict, import-linter
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --check --quiet .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports

boutiques: $(RUNTIME)  ## make boutiques/blmm_bids.json from the command-line parser
	@$(BIN)/python -m blmm_bids --bids-exec-spec > boutiques/blmm_bids.json

bench: $(BENCH)  ## run the benchmarks: minutes; BENCH_ARGS='engine --docs' for a part, into the docs
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

docs: $(DOCS)  ## build the documentation into ./site; a broken link is an error
	@$(BIN)/python -m blmm_bids.outputs.catalogue docs/outputs.md
	@$(BIN)/python -m mkdocs build --strict --quiet --site-dir site
	@echo 'site/index.html'

audit: $(RUNTIME)  ## look the locked dependencies up among known advisories; needs the network
	@test -x $(VENV)/audit/bin/pip-audit || { $(BIN)/python -m venv $(VENV)/audit && \
	  PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0 $(VENV)/audit/bin/python -m pip install -qq pip-audit; }
	@$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements/lock.txt

lock: $(DEV)  ## resolve requirements/*.txt anew from pyproject.toml; UPGRADE= keeps the pins that still fit
	@$(PIP) install -qq uv
	@cd requirements && for extra in '' dev bench docs; do \
	  UV_CUSTOM_COMPILE_COMMAND='make lock' ../$(BIN)/python -m uv pip compile --quiet $(UPGRADE) \
	    --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    $${extra:+--extra $$extra --constraint lock.txt} ../pyproject.toml \
	    --output-file $${extra:+$$extra-}lock.txt || exit 1; done

clean:  ## remove .venv, demo-out and caches
	rm -rf $(VENV) demo-out site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# A copied or moved checkout has the old place's paths inside its .venv: the stamp holds the place.
ifneq ($(shell cat $(RUNTIME) 2>/dev/null),$(CURDIR))
$(RUNTIME): FORCE
endif

$(RUNTIME): pyproject.toml requirements/lock.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("blmm-bids needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make setup PYTHON=/path/to/python3.12")'
	@test -f $(RUNTIME) && $(BIN)/python -c 'import pip' 2>/dev/null && test "$$(cat $(RUNTIME))" = "$(CURDIR)" || \
	  { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo 'installing requirements/lock.txt (a minute or two the first time)'
	@$(PIP) install -qq --require-hashes -r requirements/lock.txt
	@$(PIP) install -qq --no-deps --editable .
	@printf '%s\n' '$(CURDIR)' > $@

$(DEV): $(RUNTIME) requirements/dev-lock.txt
	@echo 'installing requirements/dev-lock.txt'
	@$(PIP) install -qq --require-hashes -r requirements/dev-lock.txt
	@touch $@

$(DOCS): $(RUNTIME) requirements/docs-lock.txt
	@echo 'installing requirements/docs-lock.txt'
	@$(PIP) install -qq --require-hashes -r requirements/docs-lock.txt
	@touch $@

$(BENCH): $(RUNTIME) requirements/bench-lock.txt
	@echo 'installing requirements/bench-lock.txt'
	@$(PIP) install -qq --require-hashes -r requirements/bench-lock.txt
	@touch $@
