# make demo | test | check | proto | serve | torture | mutants -- each makes its own virtual environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check proto serve torture mutants clean
.DELETE_ON_ERROR:

demo: .venv/server
	$(BIN)/statecast demo

serve: .venv/server
	$(BIN)/statecast serve

test: .venv/dev
	$(BIN)/pytest

# Faults at length, about half an hour: prints a line for each; make torture ARGS=--quick takes two minutes.
torture: .venv/dev
	cd tests && ../$(BIN)/python -m torture $(ARGS)
	cd tests && ../$(BIN)/python -m hostile $(ARGS)

# Seeded bugs, one after the other: prints which test catches each.
mutants: .venv/dev
	cd tests && ../$(BIN)/python -m mutants $(ARGS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	proto/generate --check

proto: .venv/dev
	proto/generate

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/server: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[server]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ .venv/server

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
