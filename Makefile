# Each command makes its own virtual environment first. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# Two processes more than there are cores, since many tests wait for servers.
PYTEST := $(BIN)/pytest --numprocesses $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count() + 2))") --dist worksteal

.PHONY: help demo serve format check test test-fast test-lowest coverage docs generate sbom lock torture mutants bench clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:  ## List these commands
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv/server  ## Stream live data, kill the server, see every session continue
	$(BIN)/statecast demo

serve: .venv/server  ## Start a server with an embedded Redis
	$(BIN)/statecast serve

format: .venv/dev  ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: .venv/dev  ## Lint, types, import contracts, generated code, schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	proto/generate --check
	client/generate --check
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.gpu.yml docker-compose.tls.yml

test: .venv/dev  ## All tests, on a private Redis and real servers: ten to fifteen minutes
	$(PYTEST)

test-fast: .venv/dev  ## Tests that start no process and no server: a minute
	$(PYTEST) -m "not slow and not servers"

test-lowest: .venv-lowest/test  ## All but the slow tests, with the lowest allowed version of each dependency
	.venv-lowest/bin/pytest --numprocesses logical --maxprocesses 4 --dist worksteal -m "not slow" \
		--ignore tests/test_packaging.py --ignore tests/test_site.py --ignore tests/client/test_typing.py \
		--deselect tests/proto/test_languages.py::test_what_comes_from_google_is_unchanged

coverage: .venv/dev  ## All tests, with line and branch coverage in htmlcov/
	$(PYTEST) --cov --cov-report=term --cov-report=html

docs: .venv/dev  ## Build the documentation site in site/
	$(BIN)/zensical build --clean --strict

generate: .venv/dev  ## Generate the stubs and docs/openapi.json from proto/, and the sync client from the async one
	proto/generate
	client/generate

sbom: .venv/dev  ## Write the server's software bill of materials to statecast.cdx.json
	$(BIN)/python deploy/sbom.py

lock: .venv/dev  ## Write the versions of this environment to requirements-dev.lock
	$(BIN)/pip freeze --exclude-editable --exclude torch --exclude statecast | grep -v ' @ ' > requirements-dev.lock

torture: .venv/dev  ## Faults, then hostile bytes: half an hour; QUICK=1 takes three minutes
	cd tests && ../$(BIN)/python -m torture $(if $(QUICK),--quick)
	cd tests && ../$(BIN)/python -m fuzz $(if $(QUICK),--examples 3000)

mutants: .venv/dev  ## Seeded bugs one after the other: which test catches each; ARGS names some
	cd tests && ../$(BIN)/python -m mutants $(ARGS)

bench: .venv/server  ## Compare with peers and floors: ten minutes; QUICK=1 takes two
	$(BIN)/python -m bench.compare $(if $(QUICK),--quick) $(ARGS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/server: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[server,kernels]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt requirements-dev.lock
	$(BIN)/pip install --quiet -c constraints.txt -c requirements-dev.lock -e '.[dev]'
	touch $@ .venv/server

.venv-lowest/test: pyproject.toml constraints.txt .ci/lowest
	$(PYTHON) -m venv .venv-lowest
	.ci/lowest > .venv-lowest/lowest.txt
	.venv-lowest/bin/pip install --quiet -c .venv-lowest/lowest.txt -c constraints.txt -e '.[test]'
	touch $@

clean:  ## Delete environments, caches and builds
	rm -rf .venv .venv-lowest dist statecast.cdx.json site htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
