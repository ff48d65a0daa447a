# make demo | test | check | proto | serve | torture | mutants | bench -- each makes its own virtual environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check proto serve torture mutants bench clean
.DELETE_ON_ERROR:

demo: .venv/server
	$(BIN)/statecast demo

serve: .venv/server
	$(BIN)/statecast serve

# On the cores there are, up to four; tests wait for processes much of the time.
test: .venv/dev
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist worksteal

# Faults at length, then hostile bytes: prints a line for each. Half an hour; make torture QUICK=1 takes three minutes.
torture: .venv/dev
	cd tests && ../$(BIN)/python -m torture $(if $(QUICK),--quick)
	cd tests && ../$(BIN)/python -m fuzz $(if $(QUICK),--examples 3000)

# Seeded bugs, one after the other: prints which test catches each.
mutants: .venv/dev
	cd tests && ../$(BIN)/python -m mutants $(ARGS)

# Beside peers and floors: prints tables and writes bench-results.md. Ten minutes; make bench QUICK=1 takes two.
bench: .venv/server
	$(BIN)/python -m bench.compare $(if $(QUICK),--quick) $(ARGS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
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
