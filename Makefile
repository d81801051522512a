# Every target does its own set-up. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q install -c constraints.txt
DATA ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint type docs bench bench-speed bench-quality bench-service bench-uploads bench-fairness bench-forecasts bench-scale bench-preflight bench-faults chaos chaos-stack chaos-queue clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.server: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[server]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.server

demo: $(VENV)/.server ## Train on real data through the whole stack and show the report (demo/)
	$(BIN)/python deploy/demo.py

test: $(VENV)/.dev ## Run all tests
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## Check style, formatting and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.dev ## Check types (mypy, strict)
	$(BIN)/mypy

docs: $(VENV)/.dev ## Write the generated pages under docs/ anew
	$(BIN)/python docs/generate.py

$(VENV)-mlflow/.done: $(BIN)/python
	$(PYTHON) -m venv $(VENV)-mlflow
	$(VENV)-mlflow/bin/python -m pip --disable-pip-version-check -q install mlflow
	@touch $@

bench: bench-speed bench-health bench-service bench-uploads bench-fairness bench-scale ## Run all benchmarks and keep them in docs/benchmarks.md

bench-service: $(VENV)/.dev $(VENV)-mlflow/.done ## Measure the service beside MLflow's server
	$(BIN)/python benchmarks/page.py service -- $(BIN)/python benchmarks/service.py --mlflow $(VENV)-mlflow/bin/python

bench-speed: $(VENV)/.dev ## Time a training step beside the plain loop and scikit-learn
	$(BIN)/python benchmarks/page.py speed -- $(BIN)/python benchmarks/speed.py $(if $(DATA),--data $(DATA))

$(VENV)/.bench: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[bench]'
	@touch $@ $(VENV)/.server

bench-quality: $(VENV)/.bench ## Compare accuracy with other libraries' on the sets in DATA (hours; goes on where it was)
	$(BIN)/python benchmarks/page.py quality -- $(BIN)/python benchmarks/quality.py --data $(DATA) --chart docs/quality.svg

bench-health: $(VENV)/.bench ## Time what watching costs, beside the unwatched loop and Lightning's logging
	$(BIN)/python benchmarks/page.py health -- $(BIN)/python benchmarks/health.py

bench-uploads: $(VENV)/.dev ## Time an upload of 1 GiB over a line that is cut five times
	$(BIN)/python benchmarks/page.py uploads -- $(BIN)/python benchmarks/uploads.py

bench-fairness: $(VENV)/.dev ## Show what a single job waits behind a large batch
	$(BIN)/python benchmarks/page.py fairness -- $(BIN)/python benchmarks/fairness.py

bench-forecasts: $(VENV)/.dev ## Hold forecasts against earlier values and a linear model on the series in DATA
	$(BIN)/python benchmarks/page.py forecasts -- $(BIN)/python benchmarks/forecasts.py --data $(DATA)

bench-scale: $(VENV)/.dev ## Ingest and train on 1e5, 1e6 and 1e7 rows and show time and memory (ROWS="100000 1000000")
	$(BIN)/python benchmarks/page.py scale -- $(BIN)/python benchmarks/scale.py $(if $(ROWS),--rows $(ROWS))

bench-faults: $(VENV)/.bench ## Put known faults into runs and count what the reports name (DATA=folder FAULTS="…" REPAIR=no)
	$(BIN)/python benchmarks/page.py faults -- $(BIN)/python benchmarks/faults.py $(if $(DATA),--data $(DATA)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(REPAIR),--no-repair)

bench-preflight: $(VENV)/.bench ## Look at every set in DATA, train with what is recommended and show it stable
	$(BIN)/python benchmarks/page.py preflight -- $(BIN)/python benchmarks/preflight.py --data $(DATA)

chaos: chaos-stack chaos-queue ## Kill and freeze what runs jobs at random and count how they end (SEED=1)

chaos-stack: $(VENV)/.dev # a whole stack: JOBS=40
	$(BIN)/python tests/system/chaos_stack.py $(if $(JOBS),--jobs $(JOBS)) $(if $(SEED),--seed $(SEED))

chaos-queue: $(VENV)/.dev # 10,000 submissions while their consumer is killed
	GRADKEEL_TEST_SUBMISSIONS=10000 $(BIN)/python -m pytest tests/system/test_submissions.py -k with_kills --durations 1

clean: ## Remove the environment and everything generated
	rm -rf $(VENV) $(VENV)-mlflow demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
