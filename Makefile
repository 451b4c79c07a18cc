# `make demo` and `make test` each do everything by themselves on a machine with Python 3.11 and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint install samples clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv and install segpipe with all that is tested

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no python3.11 or python3 found: install Python 3.11, or name it: make PYTHON=/path/to/python"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than Python 3.11: install Python 3.11, or name it: make PYTHON=/path/to/python"; exit 2; }
	@echo "Installing segpipe and what it needs into $(VENV): a minute or more, once"
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## Train, export, predict and evaluate on synthetic scans (at most 5 minutes on two cores)
	$(BIN)/python workflows/quick_start.py

test: lint ## Lint, types, layers and all tests but the GPU ones (at most 12 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" -n auto --maxprocesses 4 --dist loadfile

lint: $(STAMP) ## Ruff, mypy and the import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

samples: $(STAMP) ## Make data/samples again and say whether they are the same bit for bit
	$(BIN)/python -m segpipe.dataset.phantom data/samples
	@git diff --quiet -- data/samples && echo "data/samples: the same, bit for bit" || { git diff --stat -- data/samples; exit 1; }

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache demo_output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
