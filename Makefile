# make demo   the main job on the lab pair, from nothing but Python 3.11+ and make
# make test   format, lint, types and the short test suite
# make test-all   the same with every test: kills, browsers, clusters, trainings
# make lab    train the lab's models from nothing (about fifteen minutes of one core)
#
# PyTorch: pip's default build for Linux brings CUDA (several GB). For the CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all lab clean

demo: $(VENV)/.ready
	rm -rf demo
	$(BIN)/laconic lab demo demo

test: TESTS =
test-all: TESTS = --slow
test test-all: $(VENV)/.ready-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy & types=$$!; OMP_NUM_THREADS=1 $(BIN)/pytest $(TESTS) --numprocesses 2 --dist worksteal && wait $$types

lab: $(VENV)/.ready
	$(BIN)/laconic lab train lab-models

$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	touch $@

$(VENV)/.ready: $(VENV)/.torch pyproject.toml
	$(PIP) --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.torch pyproject.toml
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo lab-models
