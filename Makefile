# Every target installs what it needs first; a stamp file makes that instant when nothing has changed.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_JOBS ?= -n auto --maxprocesses 4
INSTALLED := .venv/.installed
INSTALLED_MIN := .venv-min/.installed
DOCUMENTS := README.md $(wildcard docs/*.md docs/guides/*.md)
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-min parity check docs format bench

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Create .venv and install the project with its development tools

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "videorm-hf needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name a newer one: make PYTHON=python3.12 $(or $(MAKECMDGOALS),install)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## Score real clips, tune a small pipeline, write demo_output/index.html (offline, CPU)
	$(BIN)/python docs/examples/demo.py --output demo_output

# One thread for each test process: several of them share the cores.
test test-min: export OMP_NUM_THREADS ?= 1
test: $(INSTALLED)  ## Run the default test suite
	$(BIN)/python -m pytest $(PYTEST_JOBS)

test-slow: $(INSTALLED)  ## Run the tests that take minutes or gigabytes
	$(BIN)/python -m pytest -m 'slow and not network and not gpu' --durations 10

test-min: $(INSTALLED_MIN)  ## Run the default tests with the oldest supported dependencies, in .venv-min
	.venv-min/bin/python -m pytest $(PYTEST_JOBS)

$(INSTALLED_MIN): pyproject.toml | $(INSTALLED)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-min
	$(BIN)/uv pip install --python .venv-min --resolution lowest-direct --editable '.[test]'
	@touch $@

parity: $(INSTALLED)  ## Compare rewards with the packages they come from, installed in the user's cache: minutes
	$(BIN)/python -m pytest -m network tests/parity

check: export TQDM_DISABLE ?= 1
check: $(INSTALLED)  ## Lint, format check, types, import directions, and every code block of the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -p tests.docs.snippets --markdown-docs $(DOCUMENTS)

docs: $(INSTALLED)  ## Build the documentation's site in site/; a broken link or reference fails
	$(BIN)/mkdocs build --strict

format: $(INSTALLED)  ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)  ## Measure speed and memory and write benchmarks/results/*.json: hours
	$(BIN)/python benchmarks/videorm_speed.py
	$(BIN)/python benchmarks/draftv_memory.py
	$(BIN)/python benchmarks/draftv_vs_alignprop.py
	$(BIN)/python benchmarks/rewards.py --size small
	$(BIN)/python benchmarks/reward_training.py
	$(BIN)/python benchmarks/annotation.py
	$(BIN)/python benchmarks/videoprefer_scale.py
	$(BIN)/python benchmarks/doc_tables.py
