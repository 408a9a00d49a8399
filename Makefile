# What can be done with this repository. Everything is installed into .venv, and nothing outside of it is changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SEEDS  := 0:200
MINUTES := 10
CYCLES := 200
SECONDS := 300

.DEFAULT_GOAL := help
.PHONY: help install demo test check simulate chaos kills fuzz bench clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*  ## ' $(MAKEFILE_LIST) | sed 's/:.*  ## /\t/' | expand -t 10

install: $(STAMP)  ## install into .venv

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## three regions, a cut, and how the books are put right (TRACE=jobs.csv replays a trace)
	$(BIN)/creditmesh demo $(if $(TRACE),--trace '$(TRACE)')

test: $(STAMP)  ## run the tests, but for those in a browser
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not browser'

simulate: $(STAMP)  ## whole clusters under every fault, in virtual time (SEEDS=0:1000)
	$(BIN)/python -m tests.simulation run $(SEEDS)

check: $(STAMP)  ## everything that must pass: style, types, imports, tests, 240 simulated worlds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 3 --dist worksteal
	$(BIN)/python -m tests.simulation run 0:240

chaos: $(STAMP)  ## real nodes under every fault at once, for ten minutes (MINUTES=…, SEED=… for the faults of a run)
	$(BIN)/python -m tests.chaos.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

kills: $(STAMP)  ## kill −9 of real nodes under load, 200 times (CYCLES=…, SEED=…)
	$(BIN)/python -m tests.chaos.kills --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))

fuzz: $(STAMP)  ## decoders, hostile peers and the HTTP interface, five minutes each (SECONDS=…)
	$(BIN)/python -m tests.fuzz all --seconds $(SECONDS)
	$(BIN)/python -m tests.fuzz.http --seconds $(SECONDS)

bench: $(STAMP)  ## measure the figures that the documents quote
	$(BIN)/python -m bench.reservations
	$(BIN)/python -m bench.stages
	$(BIN)/python -m bench.catchup

clean:  ## remove what was installed and cached; data in var/ stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
