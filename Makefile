# What a person types; each target sets .venv up first, which is quick when nothing changed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# e.g. EXTRAS=cuda,dev on a machine with NVIDIA GPUs; kept from then on. Empty: cpu,dev,cluster at first.
EXTRAS ?=
# Further arguments of pytest or of e3mega run, e.g. ARGS="-k ledger" or ARGS="--set seed=2".
ARGS ?=
PYTHON := .venv/bin/python
SPEC := specs/runs/quickstart.yaml

.PHONY: help setup quickstart test test-all test-gpu lint clean

help:  ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup:  ## make .venv (EXTRAS=cpu,dev,cluster or EXTRAS=cuda,dev,cluster)
	@tools/setup.sh $(EXTRAS)

quickstart: setup  ## train a small reasoning model with the whole recipe
	@run_dir=runs/quickstart; n=2; \
	while [ -e "$$run_dir" ]; do \
		echo "quickstart: $$run_dir exists (resume it: .venv/bin/e3mega resume $$run_dir)"; \
		run_dir=runs/quickstart-$$n; n=$$((n + 1)); \
	done; \
	echo "quickstart: .venv/bin/e3mega run $(SPEC) --run-dir $$run_dir"; \
	.venv/bin/e3mega run $(SPEC) --run-dir "$$run_dir" $(ARGS)

test: setup  ## run the tests that CI runs
	@$(PYTHON) -m pytest -m "not slow and not gpu" $(ARGS)

test-all: setup  ## run the slow tests too
	@$(PYTHON) -m pytest -m "not gpu" $(ARGS)

test-gpu: setup  ## run the tests that need a GPU (set up with EXTRAS=cuda,dev,cluster first)
	@$(PYTHON) -m pytest -m gpu $(ARGS)

lint: setup  ## check style, types and layers
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports
	@.venv/bin/pyright --pythonpath $(PYTHON)

clean:  ## remove caches and .venv, keep runs/
	@rm -rf .venv .uv .pytest_cache .ruff_cache .import_linter_cache build dist ./*.egg-info
	@find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
