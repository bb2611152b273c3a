# `make help` lists the targets. Everything runs from .venv, which `make install` makes.

BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo unit test test-telemetry lint schemas bench bench-scheduler bench-gpu chaos chaos-short test-compose lock clean

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

install: $(STAMP) ## Make .venv with exact versions (about a minute, once)

$(STAMP): constraints.txt pyproject.toml scripts/install.sh
	@scripts/install.sh
	@touch $@

demo: $(STAMP) ## Run a mixed workload through the whole stack
	@$(BIN)/niyama demo

unit: $(STAMP) ## Run the unit tests alone (half a minute)
	$(BIN)/python -m pytest --numprocesses=2 tests/unit

test: lint ## Check the code, run all tests against the real parts
	@scripts/test-tools.sh
	$(BIN)/python -m pytest --numprocesses=2 --no-loadscope-reorder

test-compose: $(STAMP) ## Build the images, test `docker compose up` (heavy)
	$(BIN)/python -m pytest tests/compose

test-telemetry: $(STAMP) ## Test with a real collector (needs Go, once) and Prometheus
	@scripts/otel-collector.sh >/dev/null
	@scripts/prometheus.sh >/dev/null
	$(BIN)/python -m pytest tests/telemetry

bench: $(STAMP) ## Measure the pipeline and time to first token (minutes)
	$(BIN)/python -m tests.benchmarks.pipeline
	$(BIN)/python -m tests.benchmarks.first_token

bench-scheduler: $(STAMP) ## Compare SGLang's scheduling with Niyama's (20 min)
	$(BIN)/python -m tests.benchmarks.scheduler

bench-gpu: $(STAMP) ## On a GPU: learning, iterations, schedulers (ARGS=--help)
	$(BIN)/python -m tests.benchmarks.gpu $(ARGS)

chaos: $(STAMP) ## Break a stack by a seed, reconcile every job (3 min; ARGS=--help)
	@$(BIN)/python -m tests.chaos $(ARGS)

chaos-short: $(STAMP) ## A minute of it, from a fixed seed, as a test
	$(BIN)/python -m pytest tests/chaos/test_short_run.py

lint: $(STAMP) ## Check style, types and the import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

schemas: $(STAMP) ## Write the published JSON Schemas and AsyncAPI again
	$(BIN)/python -m schemas.publish
	$(BIN)/python -m gateway.contract

lock: ## Choose exact versions again: constraints.txt
	$$(scripts/install.sh --print-uv) pip compile --quiet --universal --generate-hashes \
	    --no-emit-index-url --no-annotate --python-version 3.11 --all-extras \
	    --custom-compile-command "make lock" --output-file constraints.txt pyproject.toml

clean: ## Delete .venv and what tools left behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
