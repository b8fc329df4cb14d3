# `make demo` and `make test` do everything on a fresh machine, set-up included.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: chromium setup demo test test-scale bench lint

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(MAKE) chromium
	touch $@

# The dashboard is tested in a real browser.
chromium:
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ $(SUDO) apt-get update --quiet && $(SUDO) apt-get install --yes --quiet --no-install-recommends chromium fonts-liberation; }

demo: setup
	$(BIN)/bizcode demo

lint: setup
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --doctest-modules --ignore tests/scale src/bizcode tests

# Beyond one machine: starts PostgreSQL, an S3 server and a Spark of two workers by itself, on free ports, and stops them.
SUDO := $(shell [ `id -u` = 0 ] || echo sudo)

test-scale: setup
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || which initdb >/dev/null || \
		($(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq postgresql)
	@which java >/dev/null || \
		($(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless)
	$(BIN)/python -m pip install --quiet --editable '.[scale]'
	BIZCODE_SCALE=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/scale --ignore tests/scale/test_spark.py --ignore tests/scale/test_spark_streams.py --ignore tests/scale/test_spark_joins.py
	BIZCODE_SCALE=1 $(BIN)/python -m pytest tests/scale/test_spark.py tests/scale/test_spark_streams.py tests/scale/test_spark_joins.py

bench: setup
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks
