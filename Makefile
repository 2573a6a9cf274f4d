# Everything runs from ./.venv, made by `make setup` from a bare Python >= 3.11; an active virtual
# environment is ignored. The second run of any target skips the setup.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
FAST_TESTS := $(wildcard tests/unit tests/property tests/integration tests/golden tests/simulation tests/test_tidy.py)

.PHONY: help setup demo bench bench-growth bench-micro bench-client test test-faults test-soak fuzz audit test-capacity test-fidelity test-browser test-newcomer test-agents test-vllm test-fleet test-envoy test-prometheus lint lint-deploy format settings clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

setup:  ## make ./.venv (again only when pyproject.toml changed)
	@bash .ci/setup.sh

demo: setup  ## four emulated replicas, the proxy, a replay, one table
	@$(BIN)/kvproxy demo

test: setup  ## every test that needs neither minutes nor an engine
	@$(BIN)/pytest -n auto -m "not slow and not realstack" $(FAST_TESTS)

test-faults: setup  ## thousands of failure schedules, 10,000 aborts, then test-soak (minutes)
	@$(BIN)/pytest -n auto -m slow tests/simulation tests/property
	@$(BIN)/pytest -q -s -m slow tests/integration/test_client_aborts.py \
		tests/integration/test_steady_objects.py
	@$(MAKE) --silent test-soak

fuzz: setup  ## bodies that nobody would write through everything that reads one; COUNT=1000000
	@$(BIN)/python -m tests.fuzz --count $(COUNT)

COUNT := 1000000
SECONDS := 600
test-soak: setup  ## steady load while replicas die, hang and come back; SECONDS=600
	@$(BIN)/python -m tests.soak.objects
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) $(SOAK)

test-capacity: setup  ## what ramps find, on engines whose capacity is known (minutes)
	@$(BIN)/pytest -s -m slow tests/unit/loadgen/ramp tests/integration/test_certify.py

test-fidelity: setup  ## every request of recorded traces: prompt lengths and hits
	@$(BIN)/pytest -s -m slow tests/integration/test_trace_fidelity.py

test-browser: setup  ## the pages in a real Chromium; its first run installs it (pictures: out/browser)
	@mkdir -p out && rm -f out/test-browser.status
	@status=0; \
	$(BIN)/python -m tests.support.browser || status=$$?; \
	if [ $$status = 0 ]; then $(BIN)/pytest -q tests/browser || status=$$?; fi; \
	echo $$status > out/test-browser.status; exit $$status

test-newcomer:  ## types README's first steps in a fresh clone and times them (minutes)
	@python3 -m tests.newcomer

test-agents: setup  ## real coding agents, without a network; its first run gets them; AGENTS=--latest
	@mkdir -p out && rm -f out/test-agents.status
	@status=0; $(BIN)/python -m tests.agents $(AGENTS) || status=$$?; \
	echo $$status > out/test-agents.status; exit $$status

test-vllm: setup  ## a real vLLM and LMCache on the CPU; its first run installs them (minutes)
	@mkdir -p out && rm -f out/test-vllm.status
	@status=0; $(BIN)/python -m tests.support.realstack.run || status=$$?; \
	echo $$status > out/test-vllm.status; exit $$status

test-fleet: setup  ## four proxies, a real Valkey, hopping clients, store and proxy lost (minutes)
	@mkdir -p out && rm -f out/test-fleet.status
	@status=0; $(BIN)/python -m tests.fleet $(or $(FLEET),--points 4) || status=$$?; \
	echo $$status > out/test-fleet.status; exit $$status

audit: setup  ## what is installed beside kvproxy, and whether it is the newest of its index
	@mkdir -p out && rm -f out/audit.status
	@status=0; $(BIN)/python .ci/audit.py || status=$$?; echo $$status > out/audit.status; exit $$status

lint-deploy:  ## what is under deploy/, by the tools that will read it (gets them by itself)
	@mkdir -p out && rm -f out/lint-deploy.status
	@status=0; python3 .ci/lint_deploy.py || status=$$?; \
	echo $$status > out/lint-deploy.status; exit $$status

test-envoy: setup  ## a real Envoy asks `kvproxy epp`; its first run installs it (minutes)
	@mkdir -p out && rm -f out/test-envoy.status
	@status=0; $(BIN)/python -m tests.fleet.envoy $(or $(ENVOY),--requests 40) || status=$$?; \
	echo $$status > out/test-envoy.status; exit $$status

test-prometheus: setup  ## a real Prometheus, the rules, alerts and dashboards of deploy/ (gets it)
	@mkdir -p out && rm -f out/test-prometheus.status
	@status=0; $(BIN)/python -m tests.prometheus || status=$$?; \
	echo $$status > out/test-prometheus.status; exit $$status

bench: setup  ## what kvproxy costs beside a bare relay and nginx (minutes; a quiet machine)
	@$(BIN)/python -m tests.benchmark.relay $(BENCH)

bench-growth: setup  ## decisions, memory and events of fleets of 64 to 1024 replicas (minutes)
	@$(BIN)/python -m tests.benchmark.growth $(GROWTH)

bench-micro: setup  ## single steps of a request, those of the data plane against their budgets
	@$(BIN)/pytest -q -s tests/benchmark

bench-client: setup  ## what the load generator adds to a true 20 ms TTFT, and its events a second
	@$(BIN)/pytest -q -s tests/benchmark/loadgen/test_client_speed.py

lint: setup  ## style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict kvproxy loadgen
	@$(BIN)/lint-imports

format: setup  ## format the sources and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

settings: setup  ## write config/ again after a change of kvproxy/settings/model.py
	@$(BIN)/python -m kvproxy.settings
	@$(BIN)/kvproxy metrics > config/metrics.md

clean:  ## remove ./.venv, caches and outputs
	rm -rf .venv build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	rm -rf .import_linter_cache *.egg-info
	find kvproxy loadgen tests -name __pycache__ -type d -prune -exec rm -rf {} +
