# The two commands are `make demo` and `make test`; README.md says what they do.
.PHONY: demo demo-stop test test-slow test-nightly bench bench-login docs screenshots texts check clean

VENV := .venv
CARME := $(VENV)/bin/carme

demo: $(VENV)/project
	@$(CARME) demo up

demo-stop: $(VENV)/project
	@$(CARME) demo stop

test: $(VENV)/test
	@$(CARME) demo provide --tests
	@$(VENV)/bin/python -m pytest

# What takes minutes each: long outages, another release of Slurm.
test-slow: $(VENV)/test
	@$(CARME) demo provide --tests
	@$(VENV)/bin/python -m pytest -m slow

# The property tests with many thousands of examples.
test-nightly: $(VENV)/test
	@$(CARME) demo provide --tests
	@$(VENV)/bin/python -m pytest --hypothesis-profile=nightly tests/integration/test_gate_properties.py

# BENCH takes words for both benchmarks, such as BENCH="--rounds 5 --write"; --help names them.
bench: $(VENV)/test
	@$(CARME) demo provide --tests
	@$(VENV)/bin/python -m tests.benchmarks.job $(BENCH)

bench-login: $(VENV)/test
	@$(CARME) demo provide --tests
	@$(VENV)/bin/python -m tests.benchmarks.login $(BENCH)

# The page of all settings, from their own help texts.
docs: $(VENV)/project
	@$(VENV)/bin/python -m carme_hub.settings_page docs/configuration.md

# Pictures of all pages, of the running demo site; those that docs/ shows are renewed.
screenshots: $(VENV)/dev
	@$(VENV)/bin/python -m tests.screens

# What a translator starts from.
texts: $(VENV)/test
	@mkdir -p carme_hub/locale
	@$(VENV)/bin/pybabel --quiet extract --mapping-file=babel.cfg --output-file=carme_hub/locale/carme-hub.pot templates carme_hub/service

check: $(VENV)/dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The distribution's own Python: one that lies in somebody's home is out of the reach of others.
$(VENV)/bin/pip:
	@if ! /usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "installing python3-venv"; \
	  if [ "$$(id -u)" != 0 ]; then echo "make: installing packages needs root: sudo make $(MAKECMDGOALS)"; exit 1; fi; \
	  apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3 python3-venv ca-certificates >/dev/null; \
	fi
	@/usr/bin/python3 -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --upgrade pip

# A stamp each for the project alone, with what the tests need, and with what its developers need.
$(VENV)/project: INSTALL := .
$(VENV)/test: INSTALL := .[test]
$(VENV)/dev: INSTALL := .[dev]
$(VENV)/project $(VENV)/test $(VENV)/dev: pyproject.toml setup.cfg | $(VENV)/bin/pip
	@echo "installing carme-hub and what it stands on into $(VENV)"
	@PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet --editable '$(INSTALL)'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
