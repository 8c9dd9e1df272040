# The two commands of README.md, and what a contributor needs besides.
#
#   make demo    install what is missing, then build, launch, secure and prove the demo profile
#   make test    lint, types, import contracts, unit, integration and end-to-end tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: demo test lint format unit integration e2e coverage host host-test lock baked reference clean

demo: host $(STAMP)
	$(BIN)/rave up --profile demo --base debian

test: host-test $(DEV_STAMP)
	$(BIN)/python -m tests.run

# Host packages: through apt when we may, otherwise the one command to run is printed.
host:
	@PYTHON=$(PYTHON) sh infra/host/install-packages debian-packages

host-test:
	@PYTHON=$(PYTHON) sh infra/host/install-packages debian-packages test-packages

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): requirements/run.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): requirements/dev.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

lint: $(DEV_STAMP)
	$(BIN)/python -m tests.run lint

format: $(DEV_STAMP)
	$(BIN)/ruff format src tests benchmarks docs infra
	$(BIN)/ruff check --fix src tests benchmarks docs infra

unit integration e2e: $(DEV_STAMP)
	$(BIN)/python -m tests.run $@

# Which lines no test reaches that needs no machine.
coverage: $(DEV_STAMP)
	$(BIN)/python -m tests.run --coverage unit integration

# Hash-pinned requirements: a hash for every file, no download address.
lock: $(DEV_STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile -q --generate-hashes --no-strip-extras --no-annotate --no-header --python-version 3.11 \
	  pyproject.toml --group build -o requirements/run.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-strip-extras --no-annotate --no-header --python-version 3.11 \
	  --group platform -c requirements/run.txt -o requirements/platform.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-strip-extras --no-annotate --no-header --python-version 3.11 \
	  pyproject.toml --group dev -c requirements/run.txt -c requirements/platform.txt -o requirements/dev.txt

# The copy of the catalog that rave uses where there is no Nix; a test holds it against the flake.
baked:
	nix --extra-experimental-features 'nix-command flakes' eval --offline --json .#profileMetadata \
	  | $(PYTHON) -m json.tool --sort-keys --indent 1 > src/rave_cli/profiles/catalog.json

# Reference pages that code already knows.
reference: $(DEV_STAMP)
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
