# Every target does all its own set-up; `make demo` and `make test` work from a fresh clone. See .ci/setup.sh for what
# the set-up may change on the machine and how to forbid it (AIRLOCK_ENGINE=never).

.DEFAULT_GOAL := help
.PHONY: help demo test check sandbox-test test-long bench engine image venv clean

PY := .venv/bin/python
PYTEST := $(PY) -m pytest
WORKERS := -n auto --dist loadfile --no-loadscope-reorder
MODEL ?= smollm2

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: image ## the main job on a document of 8 MB, no key needed (MODEL=script: no model to download)
	@[ "$(MODEL)" = script ] || sh .ci/setup.sh demo
	@MODEL=$(MODEL) .venv/bin/airlock demo

test: image ## all tests but the long ones
	@sh .ci/setup.sh data
	@sh .ci/setup.sh demo
	@$(PYTEST) $(WORKERS)

check: venv ## lint, types and unit tests; under a minute
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PYTEST) -q tests/unit tests/test_architecture.py tests/test_packaging.py

sandbox-test: image ## attack every restriction under every runtime (REQUIRE=gvisor: fail where it is missing)
	@$(PYTEST) -q $(WORKERS) tests/attack tests/container/test_audit.py

test-long: image ## all tests with their full counts; hours
	@sh .ci/setup.sh data
	@sh .ci/setup.sh demo
	@AIRLOCK_LONG=1 $(PYTEST) -m "not live"

bench: image ## what a box and a run cost beside others, some 6 minutes (PEERS=1: install rlms, llm-sandbox, smolagents to compare)
	@$(PY) -m tests.bench --plot $(if $(PEERS),--peers) $(BENCH)

engine: venv ## find a Docker engine; as root on Debian or Ubuntu install one where none answers
	@sh .ci/setup.sh engine

image: engine ## build the box's image where it is missing
	@sh .ci/setup.sh image

venv: ## make .venv from the locked requirements
	@sh .ci/setup.sh venv

clean: ## remove .venv and caches (images stay; before it: airlock clean --all)
	@rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	@find orchestrator sandbox images tests -name __pycache__ -type d -prune -exec rm -rf {} +
