# Every target sets up what it needs in .venv; all the work is the command `ltbench`.

METHOD   ?= erm
DATASET  ?= shapes-lt
PROTOCOL ?=
SEEDS    ?= 0
BACKBONE ?=
CLUSTER  ?= local
ARGS     ?=
PYTHON   ?= python3

LTBENCH := .venv/bin/ltbench
OPTIONS  = $(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(BACKBONE),--backbone $(BACKBONE)) $(ARGS)

# A misspelt variable would be a run of something else.
KNOWN   := METHOD DATASET PROTOCOL SEEDS BACKBONE CLUSTER ARGS PYTHON SHELL
UNKNOWN := $(filter-out $(KNOWN),$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v)))
ifneq ($(strip $(UNKNOWN)),)
  $(error no variable $(strip $(UNKNOWN)); there are: $(KNOWN))
endif

.DEFAULT_GOAL := help
.PHONY: help bench sweep status leaderboard data test test-fast lint

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo
	@echo "  METHOD=$(METHOD) DATASET=$(DATASET) PROTOCOL=$(PROTOCOL) SEEDS=$(SEEDS) BACKBONE=$(BACKBONE) CLUSTER=$(CLUSTER) ARGS=$(ARGS)"
	@echo "  for example: make bench METHOD=db-focal SEEDS=0-2 ARGS='--epochs 5'"

bench: .venv/installed ## train METHOD on DATASET, print the table, write results/local/leaderboard.md and .html
	$(LTBENCH) run --method $(METHOD) --dataset '$(DATASET)' --seeds $(SEEDS) $(OPTIONS)

sweep: .venv/installed ## train METHOD (names with commas, or all) on DATASET (names with commas)
	$(LTBENCH) sweep --methods $(METHOD) --datasets '$(DATASET)' --seeds $(SEEDS) --cluster $(CLUSTER) $(OPTIONS)

status: .venv/installed ## tell where your runs stand
	$(LTBENCH) status $(ARGS)

leaderboard: .venv/installed ## make the leaderboards anew from their records
	$(LTBENCH) leaderboard $(ARGS)

data: .venv/installed ## get DATASET's images, check them and decode them into the cache
	$(LTBENCH) data prepare '$(DATASET)' $(OPTIONS)

test: .venv/installed-dev ## run the tests
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: .venv/installed-dev ## run the tests but for the slow ones (most that train or start processes)
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

lint: .venv/installed-dev ## check the style, what imports what, and the types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo
	.venv/bin/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is not Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "error: $(PYTHON) cannot make an environment; install its venv package (Debian: python3-venv)" >&2; exit 2; }

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "installing ltbench and PyTorch into .venv (once, a few minutes)"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	@echo "installing ltbench, PyTorch and the development tools into .venv (once, a few minutes)"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/installed
