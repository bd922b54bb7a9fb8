# Each target sets up what it needs and may be run again at any time. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A uv of the machine's own is used; without one, `make setup` installs one here.
LOCAL_UV := .cache/uv/bin/uv
UV := $(shell command -v uv || echo $(LOCAL_UV))
RUN := $(UV) run --no-sync

# What the PostgreSQL servers of the tests load (built for Debian 12, hence its ICU), MariaDB, PgBouncer. Debian starts no
# MariaDB where packages are installed without an init system; elsewhere its own server does not disturb ours.
DEBIAN_PACKAGES := tzdata libxml2 libicu72 libgssapi-krb5-2 mariadb-server pgbouncer

# Tests of one file share servers, so they stay on one worker.
PARALLEL := -n 2 --dist loadfile

.PHONY: help
help: ## List all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: debian-packages $(if $(filter $(LOCAL_UV),$(UV)),$(LOCAL_UV)) ## Install all that the other targets need
	@$(UV) sync --locked --quiet --compile-bytecode

.PHONY: check
check: setup ## Lint, types, layers and unit tests: under 3 minutes
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports --no-logo
	$(RUN) pytest tests/unit

.PHONY: test
test: check browser ## All of check, then the tests on real servers: under 35 minutes
	$(RUN) pytest tests --ignore=tests/unit --ignore=tests/system $(PARALLEL)
	$(RUN) pytest tests/system

.PHONY: browser
browser: ## Install the browser that some of the tests look at Airflow's pages with
	@$(MAKE) debian-packages DEBIAN_PACKAGES=chromium

.PHONY: faults
faults: setup ## Kill, cut, damage and overtake the steps at every single point, of which test takes a share
	FAULTS_SHARE=1 $(RUN) pytest tests/faults
	MADE_TABLES=$(or $(MADE_TABLES),500) $(RUN) pytest tests/contract/test_made_tables.py

.PHONY: soak
soak: setup ## MINUTES=30 of traffic, runs and faults at random, then an audit of every row; SEED and DB may be given
	@MINUTES=$(MINUTES) SEED=$(SEED) DB=$(DB) $(RUN) python -m tests.soak

# Exit code 1 is a known vulnerability. Anything else that goes wrong, such as no way to the advisory service, is told
# loudly and fails nothing: what cannot be asked says nothing about the code.
.PHONY: audit
audit: setup ## Look for known vulnerabilities in the locked dependencies
	@$(UV) audit --locked && exit 0; status=$$?; \
	if (( status == 1 )); then exit 1; fi; \
	echo "NOT AUDITED: 'uv audit' could not do its work here (exit code $$status). Run 'make audit' where it can." >&2

.PHONY: demo
demo: setup ## Archive and purge real flights before your eyes; DB=mariadb or DB=mysql does so there
	@DB=$(DB) $(RUN) python -m tests.demo

.PHONY: compose
compose: setup ## Validate docker-compose.yaml, and try each service's settings without an engine
	$(RUN) pytest tests/compose

# The peer on MariaDB, and its traffic.
bench: DEBIAN_PACKAGES += percona-toolkit sysbench
.PHONY: bench
bench: setup ## Measure, and write the figures that the documentation quotes
	$(RUN) python -m benchmarks

.PHONY: format
format: setup ## Format the code and repair what ruff can
	$(RUN) ruff check --fix
	$(RUN) ruff format

.PHONY: lock
lock: $(if $(filter $(LOCAL_UV),$(UV)),$(LOCAL_UV)) ## Renew uv.lock after a change of dependencies
	$(UV) lock

.PHONY: build
build: setup ## Build the wheel and the source archive into dist/
	$(UV) build --quiet --out-dir dist

.PHONY: clean
clean: ## Remove all that the other targets made, downloads included
	rm -rf .venv .cache dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOCAL_UV):
	python3 -m venv $(dir $(@D))
	$(@D)/pip install --quiet --disable-pip-version-check 'uv>=0.9'

# Outside Debian (no dpkg) the libraries are left to the reader.
.PHONY: debian-packages
debian-packages:
	@command -v dpkg-query > /dev/null || exit 0; \
	missing=(); \
	for package in $(DEBIAN_PACKAGES); do \
		dpkg-query --show --showformat='$${db:Status-Status}' $$package 2> /dev/null | grep -qx installed || missing+=($$package); \
	done; \
	if (( $${#missing[@]} == 0 )); then exit 0; fi; \
	install="apt-get update && apt-get install --yes --no-install-recommends $${missing[*]}"; \
	if (( EUID == 0 )); then DEBIAN_FRONTEND=noninteractive bash -c "$$install"; \
	else echo "The servers of the tests need packages. Run: sudo sh -c '$$install'" >&2; exit 1; fi
