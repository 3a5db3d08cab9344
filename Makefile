# What a developer and the continuous integration call. Needs only python3 (3.11 or later) and make; the rest goes
# into .venv. pip's own settings (index, proxy, certificates) come from the environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test check docs bench studies clean

help:
	@echo 'make demo    run the built-in audits on the built-in phantom; prints where the reports are'
	@echo 'make test    linters, type check, import rules, then the whole test suite'
	@echo 'make check   the linters, the type check and the import rules only'
	@echo 'make docs    build the documentation into site/'
	@echo 'make bench   measure time and memory'
	@echo 'make studies rebuild all studies, their report and slides; hours, or minutes where the runs are there'
	@echo 'make clean   remove .venv and the caches; runs and reports stay'

demo: $(INSTALLED)
	$(BIN)/gradiograph demo

test: check
	$(BIN)/pytest

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bench.py

studies: $(INSTALLED)
	$(BIN)/python studies/build.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Gradiograph needs Python 3.11 or later as '$(PYTHON)'; name another with make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "'$(PYTHON)' lacks the modules venv and ensurepip; install them (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo 'Installing into $(VENV): a few minutes, torch is large.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@
