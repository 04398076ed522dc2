# Everything runs in a virtual environment in .venv, which `make setup` (and any target that needs it) creates.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CC ?= cc
CFLAGS ?= -O2
PYTEST_ARGS ?= -n auto

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

DEMO := linear_gelu
DEMO_SOURCE := kernels/linear.py:$(DEMO)
DEMO_BUNDLE := build/$(DEMO)
DEMO_PROGRAM := build/$(DEMO)_demo
WARNINGS := -Wall -Wextra -Werror

.PHONY: help setup demo test lint check-all bench clean

help:
	@echo "make demo       build the demo bundle, compile its C program and run it (GPU if there is one, else emulator)"
	@echo "make test       run the tests"
	@echo "make check-all  run every kernel, schedule, type and target on the emulator (slow)"
	@echo "make bench      measure; writes bench/results"
	@echo "make lint       ruff and mypy"
	@echo "make setup      only create the virtual environment"
	@echo "make clean      delete what was built (not the virtual environment)"

setup: $(READY)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "texpr needs Python 3.11 or later; none was found (set PYTHON=...)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[compile,test]'
	@touch $@

demo: setup
	$(BIN)/texpr aot $(DEMO_SOURCE) --out $(DEMO_BUNDLE)
	$(CC) $(CFLAGS) $(WARNINGS) -I$(DEMO_BUNDLE) $(DEMO_BUNDLE)/demo.c $(DEMO_BUNDLE)/$(DEMO).c -o $(DEMO_PROGRAM) -ldl -lm
	@if nvidia-smi -L >/dev/null 2>&1; then \
		echo "running on the GPU"; $(DEMO_PROGRAM) $(DEMO_BUNDLE)/demo; \
	else \
		echo "no GPU found: running on the emulator"; \
		$(BIN)/texpr emulate --bundle $(DEMO_BUNDLE) -- $(DEMO_PROGRAM) $(DEMO_BUNDLE)/demo; \
	fi

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

check-all: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m matrix tests/kernels

bench: setup
	$(BIN)/python -m bench

clean:
	rm -rf build dist
