# The project's commands. A target that needs the environment makes it first.
PYTHON ?= python3.11
VENV   := $(CURDIR)/.venv
BIN    := $(VENV)/bin
export PATH := $(BIN):$(PATH)
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export MLFLOW_DISABLE_TELEMETRY ?= true
export RAY_USAGE_STATS_ENABLED ?= 0
PORT ?= 5000
# at most four: more threads do not help networks this small
CORES := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
FASHION ?= /usr/share/datasets/fashion-mnist
MNIST ?= data_folders/originals/mnist
BRAINS := data_folders/synthetic
OASIS  := mlflow run . --env-manager local --experiment-name geovae-oasis

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-oasis demo-volumes demo-augmentation ui test test-slow lint format requirements notebook names mlproject docs \
	screenshots pictures pictures-studies pictures-volume pictures-oasis test-gpu gpu-pack clean

help: ## print this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/:/' | awk -F': ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(VENV)/ready ## make .venv with the pinned requirements

$(VENV)/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

demo: setup ## train three models on real MNIST digits, sample, score and register the best (minutes)
	mlflow run . --env-manager local --experiment-name geovae --run-name demo -P concurrency=1 -P cpus=$(CORES)

demo-oasis: setup ## brains: write a synthetic OASIS-1 tree, prepare it, train, sample, register (up to 10 minutes)
	$(OASIS) -e cohort -P folder=$(BRAINS)/source -P subjects=96 -P workers=2
	$(OASIS) -e prepare -P dataset=oasis -P source=$(BRAINS)/source -P root=$(BRAINS) -P arrays=npy -P arrays_spacing=4
	$(OASIS) --run-name oasis -P comparison=experiments/configs/oasis_demo.yaml -P register=geovae-oasis
	$(OASIS) -e brains -P model=models:/geovae-oasis/latest -P output=$(BRAINS)/drawn-$$(date +%Y%m%d-%H%M%S)

demo-volumes: setup ## whole brains in three dimensions, with the data of `make demo-oasis` (minutes)
	$(OASIS) --run-name volumes -P comparison=experiments/configs/oasis_volumes_demo.yaml -P register=geovae-volumes
	$(OASIS) -e brains -P model=models:/geovae-volumes/latest -P output=$(BRAINS)/drawn-$$(date +%Y%m%d-%H%M%S)

demo-augmentation: setup ## App. C.3 on a synthetic cohort: do generated brains help a classifier (minutes)
	$(OASIS) -e study -P name=oasis -P size=small

ui: setup ## open the MLflow UI on the runs of this folder (PORT=5000)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --backend-store-uri $(MLFLOW_TRACKING_URI) \
		--host 127.0.0.1 --port $(PORT) --workers 1

test: setup ## run the fast tests
	python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: setup ## run the slow tests: whole runs through mlflow, sweeps on three nodes, killed processes, servers that stop
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

# needs only torch, numpy, scipy, safetensors, pytest, pytest-timeout and hypothesis; another plugin's warning is no error of ours
test-gpu: ## run the tests that have a device parameter on the GPU, with the python3 that sees it
	python3 -m pytest -k cuda $$(grep -rlE 'def test_.*\bdevice\b' --include='test_*.py' tests)

gpu-pack: setup ## pack wheels and data for benchmarks/gpu.sh into gpu_pack (FASHION and MNIST: folders of idx files)
	python benchmarks/gpu_pack.py gpu_pack fashion-mnist=$(FASHION) mnist=$(MNIST)

lint: setup ## check style and types
	ruff check .
	ruff format --check .
	mypy

format: setup ## format the code
	ruff check --fix .
	ruff format .

requirements: ## regenerate the three requirements files from pyproject.toml and the versions in .venv
	python tools/requirements.py

screenshots: setup ## take screenshots of the UI on the runs of this folder, into screenshots/ and docs/pictures (needs chromium)
	PYTHONPATH=. python tools/screenshots.py

mlproject: setup ## write MLproject from the signatures of the entry points
	$(BIN)/python -m tools.mlproject

notebook: setup ## execute docs/tour.py into docs/tour.ipynb
	python -m pip install --quiet --disable-pip-version-check ipykernel jupytext nbclient
	PYTHONPATH=. python tools/notebook.py

names: setup ## write docs/names.md from tools/names.py and what scores, samplers and models declare
	PYTHONPATH=. python tools/names.py

docs: setup ## build the documentation with search and the API reference into site/; a warning is an error
	python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet
	@! grep -rlE '<(link|script|img|iframe)[^>]+(href|src)="?(https?:)?//' site --include='*.html' # no page loads from another host
	@echo "site/ is built: python -m http.server --bind 127.0.0.1 --directory site"

pictures: setup ## make the pictures of the README from the latest demo
	PYTHONPATH=. python tools/pictures.py

pictures-studies: setup ## copy tables and figures of the latest studies into the documentation
	PYTHONPATH=. python tools/study_pictures.py

pictures-volume: setup ## draw the picture of docs/volume.md, which is calculated
	PYTHONPATH=. python tools/volume_pictures.py

pictures-oasis: setup ## copy the pictures of docs/oasis.md from the latest demo-oasis
	python tools/oasis_pictures.py

clean: ## remove the environment and caches; keep the runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
