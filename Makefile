# `make` alone is `make help`: made from the `##` text behind each target, in the order of this file.
.DEFAULT_GOAL := help
.PHONY: help setup demo up down check test lint format psql tail lag status migrate chaos bench model lock

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell $(name) -c 'import sys; print(sys.executable) if sys.version_info >= (3, 11) else None' 2>/dev/null)) python3)
BIN := .venv/bin
READY := .venv/.ready
LOCAL := $(BIN)/python -m deploy.local

$(READY): pyproject.toml requirements/dev.txt requirements/uv.txt deploy/local/setup.py
	@$(PYTHON) -I deploy/local/setup.py
	@touch $@

setup: $(READY)
