# A fresh clone needs Python 3.11 or newer, gcc and g++, and make. `make setup` happens by itself where needed.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check

.PHONY: help setup run up down status test check format bench clean

help:
	@echo "make run      start the yard on this machine, work off the shipped jobs, show the table, stop"
	@echo "make up       start the yard and leave it up; make status, make down"
	@echo "make test     make check, then all tests"
	@echo "make check    formatting, lint, strict types, who may import whom"
	@echo "make bench    jobs per second through the whole path (see benchmarks/)"
	@echo "make setup    create $(VENV), build llama-cpp-python once (4-10 minutes on two cores)"
	@echo "make clean    remove $(VENV), caches and the state of the yard"

setup: $(VENV)/.ready

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Batchyard needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Built for this CPU before the rest is installed, so that pip finds it there and builds no other.
$(VENV)/.llama: $(VENV)/.python constraints.txt workers/build_llama.py
	$(PY) -P workers/build_llama.py
	@touch $@

$(VENV)/.ready: $(VENV)/.llama pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e '.[worker,remote,onnx,router,local,audit,audit-postgresql,dev]'
	@touch $@

run: setup
	@$(PY) -m local run $(ARGS)

up down status: setup
	@$(PY) -m local $@ $(ARGS)

test: check
	$(PY) -m pytest $(ARGS)

check: setup
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: setup
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: setup
	$(PY) -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) state build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
