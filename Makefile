# The project's commands. `make demo` and `make test` set up what they need.
PYTHON ?= python3.11
VENV   := $(CURDIR)/.venv
BIN    := $(VENV)/bin
export PATH := $(BIN):$(PATH)
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export MLFLOW_DISABLE_TELEMETRY ?= true
export RAY_USAGE_STATS_ENABLED ?= 0
PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test test-slow lint format requirements names pictures clean

help: ## print this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/:/' | awk -F': ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/ready ## make .venv with the pinned requirements

$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: setup ## train three models on real digits, sample, score and register the best (2 to 4 minutes)
	mlflow run . --env-manager local --experiment-name geovae --run-name demo

ui: setup ## open the MLflow UI on the runs of this folder (PORT=5000)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --backend-store-uri $(MLFLOW_TRACKING_URI) \
		--host 127.0.0.1 --port $(PORT) --workers 1

test: setup ## run the tests
	python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: setup ## run the slow tests: whole runs through mlflow, kills, a server that dies
	python -m pytest -n 2 --dist loadfile -m slow

lint: setup ## check style and types
	ruff check .
	ruff format --check .
	mypy

format: setup ## put the code into its format
	ruff check --fix .
	ruff format .

requirements: ## regenerate requirements.txt from pyproject.toml and the versions in .venv
	python tools/requirements.py

names: setup ## remake docs/names.md from geovae/names.py
	PYTHONPATH=. python tools/names.py

pictures: setup ## remake the README's pictures from the latest demo
	PYTHONPATH=. python tools/pictures.py

clean: ## remove the environment and caches, not the runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
