# The index of verbs. `make run` and `make test` need Python 3.11+, a C compiler and make; no root, no server.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYX := $(wildcard */*.pyx */*.pxd */*/*.pyx */*/*.pxd)

.PHONY: run test check lint build bench crash crash-broker crash-write model fuzz clean

run: build ## build what is needed and start the daemon on ./data
	@$(BIN)/thingscale serve

test: build ## run the tests, a file at a time on each of two cores
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -n 2 --dist loadfile

check: lint test ## everything that CI checks

lint: build ## linters, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/cython-lint $(filter %.pyx %.pxd,$(PYX))
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: build ## ingest and the broker beside mosquitto and others: tables and JSON files
	$(BIN)/python -m benchmarks.bench_ingest
	$(BIN)/python -m benchmarks.bench_broker

crash: build ## 200 trials of kill -9 under load
	$(BIN)/python -m tests.crash.trial --trials 200

crash-write: build ## 200 trials of kill -9 with writes over REST that have a key and are sent again
	$(BIN)/python -m tests.crash.write_trial --trials 200

crash-broker: build ## 200 trials of kill -9 with MQTT sessions: publishers and subscribers go on with theirs
	$(BIN)/python -m tests.crash.broker_trial --trials 200

model: build ## the broker against its model, 20,000 plays in half an hour
	$(BIN)/python -m pytest --hypothesis-profile=long tests/ingest/test_broker_model.py

FUZZ_S ?= 1200
fuzz: build ## every decoder under libFuzzer with sanitizers for FUZZ_S seconds in all, then the live ports
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	$(BIN)/python -m tests.fuzz.campaign --seconds $(FUZZ_S)

build: $(VENV)/installed $(VENV)/compiled ## the virtual environment and the compiled modules

MCU := tests/conformance/minimqtt.txt

$(VENV)/installed: pyproject.toml $(MCU)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --group lint
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $(MCU)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/compiled: $(VENV)/installed $(PYX) setup.py
	@$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2
	@touch $@

clean: ## remove everything that was built
	rm -rf $(VENV) build *.egg-info
	find ingest query storage -name '*.so' -delete
