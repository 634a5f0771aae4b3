# `make` alone lists what there is. Each target sets up what it needs, once, in .venv.
.DEFAULT_GOAL := help
.PHONY: help lab site slides test lint notebooks matrix witness bench mutations pins clean

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	command -v $$p >/dev/null 2>&1 \
	&& $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.ready

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

lab: $(READY) ## open JupyterLab on lesson 00
	@$(BIN)/python -m scripts.lab

site: $(READY) ## build the lessons as web pages, to be read without running anything
	@$(BIN)/python -m scripts.site

slides: $(READY) ## write the lessons as slides, to build/slides
	@$(BIN)/python -m scripts.slides

# Some containers forbid bytecode: each of some hundred interpreters would compile labkit anew.
test: $(READY) ## run every test and every notebook
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

lint: $(READY) ## check style and types (ruff, mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(READY) ## execute the notebooks whose inputs have changed, in place
	$(BIN)/python -m scripts.notebooks

matrix: $(READY) ## run the notebooks on each Redis and each database (CELLS="wheel+postgres" for one)
	$(BIN)/python -m scripts.matrix $(CELLS)

witness: $(READY) ## hold the tables that notebooks' statements read to SQLite's own word
	MPLBACKEND=agg $(BIN)/python -m scripts.witness

bench: $(READY) ## print the table of timings that must be reached
	$(BIN)/python -m scripts.bench

mutations: $(READY) ## put each pitfall back in place of its fix, and see a test fail
	$(BIN)/python -m scripts.mutations

pins: $(READY) ## choose new versions: writes constraints.txt and environment.yml
	$(BIN)/python -m scripts.pins

clean: ## remove seeded databases, .venv and caches
	@if [ -x $(BIN)/labkit ]; then $(BIN)/labkit clean; fi
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache build labkit.egg-info

$(READY): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo 'This needs Python 3.11 or newer, and found none: install it, or say make PYTHON=/path/to/python3.'; exit 1; fi
	@if ! "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$(PYTHON) lacks the venv module: install it (Debian, Ubuntu: apt install python3-venv) and run make again."; exit 1; fi
	@echo "Setting up .venv with $$("$(PYTHON)" --version): once, some two minutes."
	@"$(PYTHON)" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@$(BIN)/python -c 'import matplotlib.font_manager'
	@touch $(READY)
