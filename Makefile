# Everything one does with this project. `make help` lists it; the first target makes the virtual environment itself.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ORDERS ?= 200
SEED ?= 1
SECONDS ?= 0
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo env smoke test test-unit test-postgres cluster-test test-browser lint check-deploy check-salesforce attack chaos matrix doctor-faults i18n-check i18n-update test-alerts bench bench-pages house coverage clean audit
.DELETE_ON_ERROR:

help: ## list these targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

demo: $(VENV)/.run ## start everything with a pretend Salesforce, WHMCS and mailbox (RESET=1: from scratch)
	@exec $(BIN)/python -m sandbox.demo $(if $(filter-out 0,$(RESET)),--reset)

env: $(VENV)/.run ## write a first .env: makes its secrets, asks for the rest, ends with `flask doctor`
	@exec $(BIN)/python -m flask init-env

smoke: $(VENV)/.run ## one customer's order through the whole demo, checked on every side; ends with a JSON line
	@exec $(BIN)/python -m sandbox.smoke

test: $(VENV)/.dev ## every test, JOBS=2 files at a time (browser tests and examples say why where they are skipped)
	@exec $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-unit: $(VENV)/.dev ## the tests that start no process and take no minutes
	@exec $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m 'not long' tests/unit

# What says most of the two databases' differences in a few minutes, beside a tenth of the crash matrix.
FAST = tests/unit/test_fulfillment_ledger.py tests/unit/test_query_plans.py tests/integration/test_ledger_races.py \
	tests/integration/test_ledger_migrations.py tests/integration/test_fulfillment_story.py \
	tests/integration/test_fulfillment_protocol.py tests/integration/test_customer_story.py

test-postgres: $(VENV)/.dev ## every test, matrix and chaos too, with PostgreSQL and a Valkey by its address (PART=fast: some)
	@PORTAL_TEST_DATABASE=postgresql $(if $(filter fast,$(PART)),PORTAL_TEST_MATRIX=1/10) exec $(BIN)/python -m pytest \
		-n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(filter fast,$(PART)),$(FAST) tests/crash/test_matrix.py)

cluster-test: $(VENV)/.dev ## orders over several hosts (network namespaces) that fail and are restarted; ends with a JSON line
	@$(BIN)/python -m tests.cluster.run; status=$$?; [ $$status -eq 77 ] || exit $$status

test-browser: $(VENV)/.dev ## the pages in Chromium; fails where there is none
	@PORTAL_TEST_NO_SKIPS=1 exec $(BIN)/python -m pytest tests/browser

coverage: $(VENV)/.dev ## every test, and which lines and branches of portal and jobs they ran, in all processes
	@rm -rf var/coverage && mkdir -p var/coverage
	@status=0; $(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder || status=$$?; \
	find var/coverage -size 0 -delete; \
	$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage json -q && $(BIN)/python -m coverage report && exit $$status

lint: $(VENV)/.dev ## ruff (format, too) everywhere, mypy --strict on the product, the sandbox, bench and the tests' helpers
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet .; exit 1; }
	@$(BIN)/ruff check .
	@$(BIN)/mypy

check-deploy: $(VENV)/.dev ## the deployment files, each held against what will read it; ends with a JSON line
	@exec $(BIN)/python -m tests.deploy.check

check-salesforce: $(VENV)/.dev ## the Salesforce side without an org: types, security, metadata, components; ends with a JSON line
	@exec $(BIN)/python -m integrations.salesforce.checks

attack: $(VENV)/.dev ## hostile requests over raw sockets against the running receivers; ends with a JSON line
	@exec $(BIN)/python -m tests.webhooks.attack

chaos: $(VENV)/.dev ## orders while processes are killed and faults fire (ORDERS= SEED= SECONDS=); ends with a JSON line
	@exec $(BIN)/python -m tests.crash.chaos --orders $(ORDERS) --seed $(SEED) --seconds $(SECONDS)

matrix: $(VENV)/.dev ## every upstream call, killed at every moment
	@exec $(BIN)/python -m pytest -s tests/crash/test_matrix.py

doctor-faults: $(VENV)/.dev ## faults planted one at a time, each to be named by `flask doctor`; ends with a JSON line
	@exec $(BIN)/python -m tests.doctor_faults

i18n-check: $(VENV)/.dev ## every text customers read, in every language; ends with a JSON line
	@exec $(BIN)/python -m tests.i18n.check

i18n-update: $(VENV)/.dev ## bring the translators' catalogues up to date with the source, and say what is left to do
	@exec $(BIN)/python -m tests.i18n.catalogues

test-alerts: $(VENV)/.dev ## what operators are told, received by real HTTP and SMTP listeners; and Prometheus' rules
	@exec $(BIN)/python -m pytest tests/integration/test_alerts.py tests/integration/test_webhook_alerts.py tests/unit/test_monitoring.py

bench: $(VENV)/.dev ## the portal beside its peers: table and JSON line; fails where a row isn't held (≤ 25 minutes)
	@exec $(BIN)/python -m bench

bench-pages: $(VENV)/.dev ## what operators' pages cost at 1,000 and at 1,000,000 orders; ends with a JSON line
	@exec $(BIN)/python -m bench.pages

audit: $(VENV)/.dev ## known weaknesses in the pinned packages (pip-audit), and an SBOM in var/sbom.json; ends with a JSON line
	@exec $(BIN)/python -m tests.audit

house: $(VENV)/.dev ## how the code is laid out, measured from the code itself: one JSON line
	@exec $(BIN)/python -m bench.house

clean: ## remove the virtual environment and caches (var/, the demo's data, stays)
	@rm -rf $(VENV) integrations/salesforce/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# The environment is made anew when it isn't there, and brought up to date when a requirements file changed.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "$(PYTHON) isn't there: install Python 3.11 or newer, or name it with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), but 3.11 or newer is needed: name another with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) can't make virtual environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Making the virtual environment $(VENV) …"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt sandbox/requirements.txt | $(BIN)/python
	@echo "Installing what the portal and the demo need …"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt -r sandbox/requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements-traces.txt requirements.txt sandbox/requirements.txt | $(BIN)/python
	@echo "Installing what the tests and the checks need …"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.run
