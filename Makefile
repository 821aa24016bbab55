# All that this needs on a fresh machine: make, Rust, Python 3.11 or newer, Java 17 or newer, and the package registries.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# Compiled dependencies stay outside the checkout, so that the next clone finds them.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bowstring/target
# The Python that makes .venv; everything else runs with .venv's own.
PYTHON ?= python3
VENV ?= .venv
CARGO ?= cargo
# Benchmarks: rounds of A and B in turn; 1 is a smoke run on little data.
export BENCH_ROUNDS ?= 5
# Which parts of them, by name: core (the default), all, or for instance 'relay latency'; bench/parts.py has them.
export BENCH ?= core
# More arguments for pytest, e.g. make test-python PYTEST='-k pickled -x'
PYTEST ?=
# Test files that run at the same time: most of what Spark and Ray do there is to wait.
PYTEST_WORKERS ?= 2

BIN := $(VENV)/bin
REQUIREMENTS := python/requirements-dev.txt
INSTALLED := $(VENV)/.requirements-installed
# bowstring.torch's tests; torch itself lies in the user's cache, once per machine.
TORCH := python/requirements-torch.txt
TORCH_INSTALLED := $(VENV)/.torch-installed
# Linters of deploy/, for the tests.
DEPLOY := deploy/requirements.txt
DEPLOY_INSTALLED := $(VENV)/.deploy-installed
# The docs site's tools, in an environment of their own.
SITE := .venv-docs
SITE_INSTALLED := $(SITE)/.installed
PEERS := bench/requirements-peers.txt
PEERS_INSTALLED := $(VENV)/.peers-installed
WHEEL := $(VENV)/.wheel-installed
# The JVM connector's jar, with the native library inside; a part of the wheel.
JAR := python/bowstring/jars/bowstring-spark.jar
JAVA_SOURCES := $(shell find jvm/src/main -type f)
WHEEL_SOURCES := Cargo.toml Cargo.lock $(shell find src proto allocator arena python jvm/native -type f \
	\( -name '*.rs' -o -name '*.toml' -o -name '*.proto' -o -name '*.bin' -o -name '*.py' -o -name '*.pyi' -o -name 'py.typed' \
	-o -path '*/console/page/*' \) \
	-not -path 'python/tests/*')
# Each set of features compiles alone: these are the walls that ARCHITECTURE.md draws.
FEATURES := formats wire client spark query flow server cli

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(WHEEL) check-java ## Spark -> bowstring -> 4 Python consumers -> bowstring -> Spark, on a year of real flights, totals checked
	$(BIN)/python examples/demo.py

.PHONY: demo-jvm
demo-jvm: $(WHEEL) check-java ## The same by the JVM connector: no Python on Spark's executors
	$(BIN)/python examples/demo.py --jvm

.PHONY: examples
examples: $(WHEEL) $(TORCH_INSTALLED) check-java ## Every Python example, and the last line that each prints; some fetch a Spark or a Kafka broker the first time
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	for example in $(CURDIR)/examples/*.py; do \
		(cd "$$folder" && $(abspath $(BIN))/python "$$example" > out 2> err) \
			|| { cat "$$folder/out" "$$folder/err" >&2; echo "$$example failed" >&2; exit 1; }; \
		printf '%s: %s\n' "$$(basename "$$example")" "$$(tail -n 1 "$$folder/out")"; \
	done

.PHONY: test
test: test-rust test-python ## Every test: Rust, Python, real Spark

.PHONY: test-rust
test-rust: check-rust ## Rust's tests alone
	$(CARGO) test --locked --workspace

# Of the whole workspace's features: nothing is compiled twice.
.PHONY: test-engine
test-engine: check-rust ## The engine's property tests alone (PROPTEST_CASES)
	$(CARGO) test --locked --workspace --test engine

# Without queries, which neither asks: with what only tests need, DataFusion would be compiled for them alone.
SIM_FEATURES := --no-default-features --features cli,cloud,formats,zoo
# A process simulates one run at a time: two of them, for two cores.
SIM = $(CARGO) test --locked --release $(SIM_FEATURES) --test sim

# Seeds of `make sim`: a number, or a range like 1000..3000.
SIM_SEEDS ?= 10000

.PHONY: sim
sim: check-rust ## The whole stack on a simulated network and disk, 10,000 seeds (SIM_SEEDS), then the zoo of bugs that it has to find
	$(SIM) --no-run
	@status=0; SIM_SEEDS=$(SIM_SEEDS) $(SIM) -- --skip zoo:: & seeds=$$!; \
	$(SIM) -- zoo:: || status=$$?; wait $$seeds || status=$$?; exit $$status

# Cases of each target of `make fuzz`.
FUZZ_CASES ?= 60000

.PHONY: fuzz
fuzz: check-rust ## Every parser on mutated bytes (FUZZ_CASES for each, FUZZ_SEED), then the bugs put in on purpose that it has to find
	FUZZ_CASES=$(FUZZ_CASES) $(CARGO) test --locked --release $(SIM_FEATURES) --test fuzz -- --nocapture

.PHONY: test-python
test-python: $(WHEEL) $(TORCH_INSTALLED) $(DEPLOY_INSTALLED) check-java ## Python's and Spark's tests alone; PYTEST='-k name' picks some
	$(BIN)/python -m pytest python/tests --ignore python/tests/soak --numprocesses $(PYTEST_WORKERS) --dist loadfile $(PYTEST)

# Alone on the machine, for what they measure is to be theirs. Seconds of the soak; the same SOAK_SEED kills the same in the same order.
SOAK_SECONDS ?= 3600

.PHONY: soak
soak: $(WHEEL) ## Mixed load with faults for an hour (SOAK_SECONDS): nothing lost, no drift of memory, descriptors, threads, latency
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest python/tests/soak/test_soak.py

.PHONY: load
load: $(WHEEL) ## 1,000 consumers and 100 producers on one coordinator (LOAD_CONSUMERS, LOAD_PRODUCERS), and the next one beyond its limit
	$(BIN)/python -m pytest python/tests/soak/test_load.py

# The oldest Ray and PySpark that are promised, in an environment of their own.
OLDEST := .venv-oldest
OLDEST_VERSIONS := 'ray[data]==2.56.0' 'pyspark==4.1.0'

.PHONY: check-oldest
check-oldest: $(WHEEL) check-java ## The tests of bowstring.ray with the oldest Ray and PySpark that are promised
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check $(OLDEST_VERSIONS)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	$(OLDEST)/bin/python -m pytest python/tests/ray --numprocesses $(PYTEST_WORKERS) --dist loadfile $(PYTEST)

# Those of the wheel, and so the same compiled library.
BENCH_FEATURES := --no-default-features --features cli,cloud,flow,formats,spark

.PHONY: bench
bench: $(WHEEL) $(if $(filter all kafka flows,$(BENCH)),$(PEERS_INSTALLED)) check-java ## Against Arrow C++, raw sockets and Spark's noop, as ratios; BENCH='relay latency' or all, BENCH_ROUNDS=1 is a smoke run
	$(CARGO) build --locked --release $(BENCH_FEATURES) --bin bowstring --bin bowstring-bench
	$(BIN)/python -m bench

.PHONY: docs
docs: $(SITE_INSTALLED) ## Build the docs site into site/, strictly; no page loads anything from elsewhere
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict
	$(SITE)/bin/python docs/check.py site

.PHONY: docs-reference
docs-reference: $(WHEEL) ## Write docs/configuration.md and the table of docs/metrics.md anew from the code (a test checks that they are current)
	$(BIN)/python docs/generate.py

.PHONY: wheel
wheel: $(WHEEL) ## Build the wheel and install it, with all it needs, into .venv

.PHONY: jar
jar: $(JAR) ## Build the JVM connector's jar: python/bowstring/jars/bowstring-spark.jar

.PHONY: lint
lint: check-rust $(WHEEL) ## Formats, lints, each set of features alone, docs, types
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) check --locked --no-default-features
	for feature in $(FEATURES); do $(CARGO) check --locked --no-default-features --features $$feature; done
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd python && ../$(BIN)/mypy --strict bowstring

# Installed once per machine, beside the compiled dependencies.
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(dir $(CARGO_TARGET_DIR))tools/cargo-deny-$(CARGO_DENY_VERSION)

.PHONY: deny
deny: $(CARGO_DENY)/bin/cargo-deny ## What may be in Cargo.lock, by deny.toml: versions, licences, sources (advisories need a network: cargo deny check advisories)
	$< --locked check bans licenses sources

$(CARGO_DENY)/bin/cargo-deny: | check-rust
	$(CARGO) install --quiet --locked --root $(CARGO_DENY) --target-dir $(CARGO_DENY)/target cargo-deny@$(CARGO_DENY_VERSION)
	rm -rf $(CARGO_DENY)/target

.PHONY: fmt
fmt: $(INSTALLED) ## Format everything
	$(CARGO) fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: codegen
codegen: check-rust ## Generate the code of proto/ anew (CI checks that it is current)
	BOWSTRING_UPDATE=1 $(CARGO) test --locked --test it codegen

.PHONY: clean
clean: ## Remove what was built in the checkout (not the compiled dependencies)
	rm -rf $(VENV) $(OLDEST) $(SITE) dist site

.PHONY: check-rust
check-rust:
	@bash .ci/require.sh rust

.PHONY: check-java
check-java:
	@bash .ci/require.sh java

.PHONY: check-jdk
check-jdk:
	@bash .ci/require.sh jdk

$(INSTALLED): $(REQUIREMENTS)
	@PYTHON='$(PYTHON)' bash .ci/require.sh python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	touch $@

$(TORCH_INSTALLED): $(TORCH) python/torch.sh $(INSTALLED)
	bash python/torch.sh $(BIN)/python $(TORCH)
	touch $@

$(DEPLOY_INSTALLED): $(DEPLOY) $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(DEPLOY)
	touch $@

$(SITE_INSTALLED): docs/requirements.txt
	@PYTHON='$(PYTHON)' bash .ci/require.sh python
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	touch $@

$(PEERS_INSTALLED): $(PEERS) $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(PEERS)
	touch $@

# Compiled against the very jars of the Spark that the tests run on. Both native libraries at once: so they share what they are made of.
$(JAR): $(INSTALLED) $(WHEEL_SOURCES) $(JAVA_SOURCES) jvm/jar.sh | check-rust check-jdk
	$(CARGO) build --locked --release --package bowstring-jvm --package bowstring-python
	PYTHON=$(BIN)/python bash jvm/jar.sh $@

# Release: the demo and the benchmarks run what users run, and the tests of the Python side move gigabytes.
$(WHEEL): $(INSTALLED) $(WHEEL_SOURCES) $(JAR) | check-rust
	rm -rf dist
	$(BIN)/maturin build --release --locked --manifest-path python/Cargo.toml --interpreter $(BIN)/python --out dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	touch $@
