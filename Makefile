# make demo    environment, install, a tour of the package on this machine
# make test    install what the tests need, and run them (make test-all: the slow ones, too)
# make lint    ruff, mypy, import-linter
# make docs    the site, in docs/_build/html, with warnings as errors; its examples are run
# make notebooks    execute the .py of notebooks/, and store the results in their .ipynb
# make wheel-test    the wheel, in a clean environment outside the repository, passes the fast tests
# PYTHON=python3.13 VENV=.venv313 make test    the same on another Python (and the newest jax for it)

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -n auto

.PHONY: demo test test-all test-fast coverage docs notebooks wheel-test lint format clean
.SECONDARY:

demo: $(VENV)/.demo
	$(BIN)/python -m linalgx

test: $(VENV)/.test
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.test
	$(PYTEST)

test-fast: $(VENV)/.test
	$(PYTEST) -m "not slow" tests/test_values.py tests/test_transforms.py tests/test_public_api.py -k "not float32 and not complex64"

coverage: $(VENV)/.test
	$(PYTEST) --cov=linalgx --cov-report=term-missing

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -d docs/_build/doctrees -b html docs docs/_build/html
	$(BIN)/sphinx-build -q -W --keep-going -d docs/_build/doctrees -b doctest docs docs/_build/doctest
	@echo "docs/_build/html/index.html"

notebooks: $(VENV)/.notebooks
	$(BIN)/jupytext --quiet --to ipynb --execute notebooks/*.py

wheel-test:
	.ci/wheel $(PYTHON)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# an environment with the package (editable) and one of its extras
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv* docs/_build docs/reference docs/rules.rst .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
