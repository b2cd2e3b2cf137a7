# jaxtrade: `make demo` runs the main job, `make test` checks everything that is quick to check.
# Only Python 3.11-3.13, make and a package index are needed; the rest is set up in .venv.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CHECKED := jaxtrade agents live tests

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format bench venv clean

help:
	@echo "make demo       train, evaluate and report on bundled prices"
	@echo "make test       lint, types, layers and every quick test"
	@echo "make test-slow  the tests that take minutes"
	@echo "make lint       ruff, mypy, import contracts"
	@echo "make format     let ruff rewrite the code"
	@echo "make bench      measure and rewrite docs/benchmarks.md"
	@echo "make venv       set up .venv for development"
	@echo "make clean      remove .venv and caches"

demo: $(VENV)/.runtime
	@$(BIN)/jaxtrade demo

test: lint
	@echo "== pytest"
	@$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile --durations=5

lint: $(VENV)/.dev
	@echo "== ruff"
	@$(BIN)/ruff check --quiet $(CHECKED)
	@$(BIN)/ruff format --quiet --check $(CHECKED) || { echo "run 'make format'"; exit 1; }
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log 2>&1 \
		|| { cat $(VENV)/lint-imports.log; exit 1; }
	@grep '^Contracts:' $(VENV)/lint-imports.log

format: $(VENV)/.dev
	@$(BIN)/ruff check --quiet --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

bench: $(VENV)/.dev
	@$(BIN)/jaxtrade bench --json docs/benchmarks.json --table docs/benchmarks.md

venv: $(VENV)/.dev

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Each stamp is renewed when the requirements change; a second run does nothing.
$(BIN)/python:
	@python=; for name in "$$PYTHON" python3 python3.13 python3.12 python3.11 python; do \
		[ -n "$$name" ] && command -v "$$name" >/dev/null 2>&1 || continue; \
		"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
			2>/dev/null && { python=$$name; break; }; \
	done; \
	[ -n "$$python" ] || { echo "no Python 3.11, 3.12 or 3.13 found: install one, or name it with" \
		"'make PYTHON=/path/to/python3.12 ...'" >&2; exit 1; }; \
	echo "creating $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); echo "the venv module of $$python does not work:" \
		"install it (Debian: apt install python3-venv)" >&2; exit 1; }

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing jaxtrade (once)"
	@$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing jaxtrade and its development tools (once)"
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.runtime $@

export PYTHON
