# `make` alone is `make help`, made from the `##` text behind each target. Everything sets itself up
# first: .venv from the locked requirements, and a local stack, unless KAFKA_BOOTSTRAP_SERVERS and
# DATABASE_URL name servers that run already.
.DEFAULT_GOAL := help
.PHONY: help setup demo up run down clean check lint format test psql tail lag status env migrate chaos bench model lock

# Searched only when there is something to set up: the first Python of this machine that is new enough.
NEW_ENOUGH = import sys; sys.version_info >= (3, 11) and print(sys.executable)
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13 python3.14,\
	$(shell $(name) -c '$(NEW_ENOUGH)' 2>/dev/null)) python3)
BIN := .venv/bin
READY := .venv/.ready
LOCAL := $(BIN)/python -m deploy.local
# Each of two runs has servers of its own: most of the time a test waits for a server.
SIDE_BY_SIDE := --numprocesses 2 --dist loadscope --no-loadscope-reorder
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	--universal --python-version 3.11

#@ Start here
demo: $(READY)  ## a shop's evening through every stage; ends by itself, with the reconciliation (N=20000 scales it)
	@$(BIN)/python -m deploy.demo $(if $(N),--orders $(N))
up: $(READY)  ## the same stack for work by hand, until make down; your own servers if the environment names them
	@$(LOCAL) up
	@$(LOCAL) run $(BIN)/stubline migrate
down: $(READY)  ## stops it; data and addresses stay (make clean removes the data too)
	@$(LOCAL) down

run: $(READY)  ## all services on the servers of make up, SOURCES=shop.toml; Ctrl-C ends them
	@$(if $(SOURCES),$(LOCAL) run $(BIN)/python -m deploy.local.programs --sources "$(SOURCES)",echo "name a sources file: make run SOURCES=shop.toml (docs/tutorial.md)"; exit 2)

#@ Each day
check: lint  ## make lint and the quick tests: what a merge needs
	@$(BIN)/pytest -q -m "not slow and not chaos"
test: $(READY)  ## all tests but chaos; T=issuer one service, T=SF-014 one feature, T=words of a test's name
	@$(BIN)/pytest -m "not chaos" $(if $(T),--pick "$(T)") $(if $(T)$(ARGS),,$(SIDE_BY_SIDE)) $(ARGS)
lint: $(READY)  ## format, rules, types, who may import whom
	@$(BIN)/ruff format --check --quiet . || { echo "lint: make format fixes it"; exit 1; }
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/mypy
	@out=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$out"; exit 1; }
format: $(READY)  ## fixes what a tool can fix
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

#@ Look inside
psql: $(READY)  ## the database; Q="select 1" asks one question
	@$(LOCAL) psql $(if $(Q),-c "$(Q)")
tail: $(READY)  ## TOPIC=orders.decided.v1 prints records as they come
	@$(if $(TOPIC),$(LOCAL) tail "$(TOPIC)",echo "name a topic: make tail TOPIC=orders.decided.v1"; exit 2)
lag: $(READY)  ## the lag of each lane: its records that are not consumed yet
	@$(LOCAL) lag
status: $(READY)  ## what runs, and where
	@$(LOCAL) status
env: $(READY)  ## the servers as KEY=VALUE lines, for your own programs
	@$(LOCAL) env

#@ Before release
chaos: $(READY)  ## seeded faults at length, three brokers; ends with a table (SEED=7 repeats a run)
	@$(if $(SEED),SEED=$(SEED)) $(BIN)/pytest -m chaos -s $(ARGS)
bench: $(READY)  ## each figure beside its limit, measured in the same run
	@$(BIN)/python -m tests.benchmarks $(ARGS)
model: $(READY)  ## checks the protocol of the lanes (TLA+)
	@$(BIN)/python -m model $(ARGS)

#@ Now and then
setup: $(READY)  ## only the set-up, which every target does by itself
migrate: $(READY)  ## brings database and topics to what this release needs
	@$(LOCAL) run $(BIN)/stubline migrate
clean: $(READY)  ## removes the local stack and all its data
	@$(LOCAL) remove
lock: $(READY)  ## updates the lock files, those of Kafka's and veraPDF's jars too (that part needs Maven)
	@$(COMPILE) --upgrade pyproject.toml --group dev -o requirements/dev.txt
	@$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
	@echo uv | $(COMPILE) - -c requirements/dev.txt -o requirements/uv.txt
	@$(BIN)/python -m deploy.local.lock_jars

help:
	@awk -F ' *## ' '/^#@ /{group = substr($$0, 4)} \
		/^[a-z]+:.*## /{split($$1, name, ":"); printf "%-16s make %-9s %s\n", group, name[1], $$2; group = ""}' $(MAKEFILE_LIST)

$(READY): pyproject.toml requirements/dev.txt requirements/uv.txt deploy/local/setup.py
	@$(PYTHON) -I deploy/local/setup.py
	@touch $@
