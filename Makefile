# Every target installs what it needs first; a stamp file makes that instant when nothing has changed.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_JOBS ?= -n auto --maxprocesses 4
INSTALLED := .venv/.installed
INSTALLED_MIN := .venv-min/.installed
DOCUMENTS := README.md $(wildcard docs/*.md docs/guides/*.md hub_cards/*/README.md)
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help install demo miniature space test test-slow test-min parity check docs format bench reproduce cards publish release-check

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Create .venv and install the project with its development tools

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "videorm-hf needs Python 3.10 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name a newer one: make PYTHON=python3.12 $(or $(MAKECMDGOALS),install)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## Score, tune and judge the shipped miniature; write demo_output/index.html (offline, CPU, minutes)
	$(BIN)/draftv demo --output demo_output

miniature: $(INSTALLED)  ## Train the shipped miniature weights from nothing (CPU, about an hour)
	$(BIN)/python -m benchmarks.miniature

space: $(INSTALLED)  ## Score, compare and vote in the browser, on the miniature weights (offline, CPU)
	$(BIN)/python hub_cards/spaces/videorm-demo/app.py

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

reproduce: $(INSTALLED)  ## Redo the paper's studies in the small world and write docs/studies.md: a night
	$(BIN)/python -m benchmarks.studies all

# The threads that the documentation's tables name.
bench: export OMP_NUM_THREADS = 1
bench: $(INSTALLED)  ## Measure speed and memory and write benchmarks/results/*.json: hours
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/videorm_speed.py
	$(BIN)/python benchmarks/draftv_memory.py
	$(BIN)/python benchmarks/draftv_vs_alignprop.py
	$(BIN)/python benchmarks/rewards.py --size small
	$(BIN)/python benchmarks/reward_training.py
	$(BIN)/python benchmarks/annotation.py
	$(BIN)/python benchmarks/videoprefer_scale.py
	$(BIN)/python benchmarks/doc_tables.py

cards: $(INSTALLED)  ## Fill in the tables of the Hub's cards, check their metadata, render them to build/cards
	$(BIN)/python -m hub_cards.cards

publish: $(INSTALLED)  ## Upload cards, weights and Space to the Hub: ORG=name; DRY_RUN=1 only lists what would be uploaded
	@test -n "$(ORG)" || { echo "Name who publishes: make publish ORG=your-organisation DRY_RUN=1" >&2; exit 1; }
	$(BIN)/python -m hub_cards.publish $(ORG) $(if $(DRY_RUN),--dry-run) $(if $(ONLY),--only $(ONLY)) $(if $(ARTIFACTS),--artifact $(ARTIFACTS))

release-check: $(INSTALLED)  ## Build the wheel, and try it in a fresh environment with and without each extra: gigabytes, minutes
	$(BIN)/python benchmarks/release_check.py
	$(BIN)/python benchmarks/doc_tables.py
