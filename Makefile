# `make help` lists the targets. Every target that needs the environment makes it.
VENV := .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
STAMP := $(VENV)/.installed
EXTRAS := $(VENV)/.extras
TOOLS := $(VENV)/.tools
XTL := $(VENV)/bin/xtl
PYTEST := $(VENV)/bin/python -m pytest
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
FAST := not slow and not e2e and not gpu
TASK ?= mnli
FLAGS = $(if $(ON),--on $(ON)) $(if $(METHOD),--method $(METHOD)) $(if $(COMPOSE),--compose $(COMPOSE)) \
        $(if $(BACKBONE),--backbone $(BACKBONE)) $(if $(DATA),--data $(DATA)) $(if $(BITS),--bits $(BITS)) \
        $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(LANGUAGES),--languages $(LANGUAGES)) \
        $(if $(SPLIT),--split $(SPLIT)) $(if $(MEMORY),--memory $(MEMORY)) $(foreach pair,$(SET),--set $(pair)) \
        $(foreach pair,$(SET_PARENTS),--set-parents $(pair)) $(if $(RESEED),--reseed) $(if $(RETAINED),--retained)
# a recipe needs the extras (see pyproject.toml) for 8- and 4-bit weights, and for nearest neighbours
NEEDED = $(if $(or $(filter 8 4,$(BITS)),$(MEMORY),$(findstring adamw8bit,$(SET) $(SET_PARENTS)),$(filter bucc tatoeba,$(TASK))),$(EXTRAS),$(STAMP))

comma := ,
empty :=
# several words for one flag become one value: METHODS="full lora" and METHODS=full,lora are the same
listed = $(subst $(empty) ,$(comma),$(strip $(1)))
COMPARED = $(foreach chain,$(ON),--on $(chain)) $(if $(METHODS),--methods $(call listed,$(METHODS))) \
           $(if $(BITS),--bits $(call listed,$(BITS))) $(if $(SEEDS),--seeds $(call listed,$(SEEDS))) \
           $(foreach grid,$(TUNE),--tune $(grid)) $(if $(COMPOSE),--compose $(COMPOSE)) \
           $(if $(BACKBONE),--backbone $(BACKBONE)) $(if $(DATA),--data $(DATA)) $(if $(RUNS),--runs $(RUNS)) \
           $(if $(LANGUAGES),--languages $(LANGUAGES)) $(if $(SPLIT),--split $(SPLIT)) \
           $(foreach pair,$(SET),--set $(pair)) $(foreach pair,$(SET_PARENTS),--set-parents $(pair)) \
           $(if $(OUT),-o $(OUT)) $(if $(DRY),--dry-run) $(if $(MEMORY),--memory $(MEMORY)) \
           $(if $(RESEED),--reseed)

.PHONY: help install recipe demo compare study page share test test-fast test-gpu gpu coverage check format docs clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 18
	@echo
	@echo '  make recipe takes TASK ON METHOD COMPOSE BACKBONE DATA BITS MEMORY SEED RUNS LANGUAGES SPLIT,'
	@echo '               SET="key=value …" SET_PARENTS="key=value mnli:key=value …", RESEED=1 and RETAINED=1'
	@echo '  make share takes DEST and LICENCE ROWS besides'
	@echo '  make compare takes TASK (or all) ON="none mnli" METHODS BITS=16,8,4 SEEDS=1,2,3 TUNE="lr=1e-4,3e-4" DRY=1 OUT,'
	@echo '               COMPOSE BACKBONE DATA RUNS LANGUAGES SPLIT SET and SET_PARENTS="key=value …"'
	@echo '  make study takes STUDY, SET="data=DIR on=none,mnli …", ENGINE JOBS RUNS OUT and DRY=1'

install: $(TOOLS) ## Make the environment in .venv, with what the tests and linters need

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=…)"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11"; exit 2; }
	@test -x $(VENV)/bin/python || "$(PYTHON)" -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $(STAMP)

$(EXTRAS): $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $(EXTRAS)

$(TOOLS): $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(EXTRAS) $(TOOLS)

recipe: $(NEEDED) ## Train TASK's module and evaluate it: make recipe TASK=mnli
	@$(XTL) recipe $(TASK) $(FLAGS)

demo: $(EXTRAS) ## A module, a target stacked on it, and the page of both, on sample rows
	@$(XTL) recipe mnli $(if $(RUNS),--runs $(RUNS))
	@$(XTL) recipe panx --on mnli --baseline $(if $(RUNS),--runs $(RUNS))
	@$(XTL) page $(if $(RUNS),--runs $(RUNS))

compare: $(EXTRAS) ## Compare methods with full fine-tuning: make compare TASK=xnli
	@$(XTL) compare $(TASK) $(COMPARED)

study: $(EXTRAS) ## Carry out a study: make study STUDY=smoke, or STUDY=FILE.toml
	@$(XTL) study $(or $(STUDY),list) $(foreach pair,$(SET),--set $(pair)) $(if $(ENGINE),--engine $(ENGINE)) \
		$(if $(JOBS),--jobs $(JOBS)) $(if $(RUNS),--runs $(RUNS)) $(if $(OUT),-o $(OUT)) $(if $(DRY),--dry-run)

page: $(EXTRAS) ## One HTML file of a study or of all runs: make page STUDY_DIR=runs/studies/…
	@$(XTL) page $(if $(STUDY_DIR),$(STUDY_DIR),$(if $(RUNS),--runs $(RUNS))) $(if $(OUT),-o $(OUT))

share: $(NEEDED) ## Train TASK's module, if need be, and share it: make share TASK=mnli DEST=user/name or DEST=file:DIR
	@test -n "$(DEST)" || { echo "where to? DEST=user/name (a hub) or DEST=file:DIR (a folder)"; exit 2; }
	@answer=$$($(XTL) recipe $(TASK) $(FLAGS) --json) && \
	run=$$(printf '%s' "$$answer" | $(VENV)/bin/python -c 'import json, sys; print(json.load(sys.stdin)["path"])') && \
	$(XTL) hub push "$$run" "$(DEST)" --with-parents $(if $(LICENCE),--licence $(LICENCE)) $(if $(ROWS),--rows "$(ROWS)")

test: $(TOOLS) ## Run all tests, a file a core at a time
	@$(XTL) prepare
	@$(PYTEST) $(PARALLEL) $(ARGS)

test-fast: $(TOOLS) ## Run the tests that start no process and load no real encoder
	@$(PYTEST) $(PARALLEL) -m "$(FAST)" $(ARGS)

test-gpu: $(TOOLS) ## Run the tests that need a CUDA device
	@XTL_GPU=1 $(PYTEST) tests/gpu $(ARGS)

gpu: $(TOOLS) ## Measure in 15 minutes what only a GPU can show: make gpu DATA=DIR
	@$(VENV)/bin/python benchmarks/gpu.py $(or $(DATA),embedded)

coverage: $(TOOLS) ## Run test-fast and report which lines it reaches
	@$(PYTEST) $(PARALLEL) -m "$(FAST)" --cov --cov-report=term:skip-covered $(ARGS)

check: $(TOOLS) ## Lint, check the layout, type-check
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(TOOLS) ## Lay out the code and sort the imports
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

docs: $(STAMP) ## Write the tree of ARCHITECTURE.md; build the site in build/docs/site, with its links checked
	$(VENV)/bin/python tests/wings.py
	@$(VENV)/bin/python -c 'import zensical' 2> /dev/null || { echo "installing what builds the site (the extra [docs])"; \
		$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'; }
	@$(VENV)/bin/python -m docs.generator

clean: ## Remove the environment and the runs of this directory's tests
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
