# `make help` lists the targets. Everything is built and installed inside this folder.
PYTHON ?= python3
export PYTHON
export CARGO_TARGET_DIR = $(CURDIR)/target

.DEFAULT_GOAL := help
.PHONY: help run test check lint build wheels bench pythons clean

help: ## show this list
	@echo 'make TARGET [PYTHON=python3.13]'
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
		printf '  %-9s %s\n' "$$name" "$$text"; done

run: build ## run the textbook examples on mioloop; or SCRIPT=path [ARGS='...'], your own script
ifdef SCRIPT
	@.venv/bin/python -m mioloop '$(SCRIPT)' $(ARGS)
else
	@.venv/bin/python scripts/run_examples.py
endif

test: ## all that CI checks, on every Python found; STAGES='lint rust' PYTHONS='3.11' for a part
	@scripts/setup check build
	@.venv/bin/python scripts/check.py --stages '$(STAGES)' --pythons '$(PYTHONS)'

check: test ## the same as test

lint: ## formatting, lints, types and layers only
	@$(MAKE) --no-print-directory test STAGES=lint

build: ## build the extension in release mode into .venv
	@scripts/setup build build

wheels: ## build the wheels of all Pythons and the sdist into dist/, and try them
	@scripts/setup wheels
	@.venv/bin/python scripts/wheels.py

bench: ## mioloop beside asyncio, uvloop and others, 12 minutes; QUICK=1 for one; ARGS=--help
	@scripts/setup build
	@set -f; .venv/bin/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

pythons: ## install CPython 3.14, 3.15 and their debug builds (Debian, root); list what tests use
	@scripts/install-pythons
	@$(PYTHON) scripts/pythons.py

clean: ## remove everything that was built
	rm -rf target dist .venv .venvs .mypy_cache .pytest_cache .ruff_cache
	rm -f python/mioloop/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
