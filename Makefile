# make demo | test | check | proto | serve -- each makes its own virtual environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check proto serve clean
.DELETE_ON_ERROR:

demo: .venv/server
	$(BIN)/statecast demo

serve: .venv/server
	$(BIN)/statecast serve

test: .venv/dev
	$(BIN)/pytest

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
