# Two commands do everything: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/graphnorms/kernels/cpu/*.cpp src/graphnorms/kernels/cpu/*.h src/graphnorms/kernels/cpu/*.inl)

.PHONY: demo test test-all check docs examples bench studies clean

demo: $(VENV)/.lab
	$(BIN)/graphnorms compare MUTAG

test: $(VENV)/.dev
	$(BIN)/pytest -n auto

# Every combination of parameters, where `make test` has every pair of values, and what it leaves out.
test-all: $(VENV)/.dev
	$(BIN)/pytest -n auto --all-combinations

# Everything that CI checks: tests, lint, format, types, the import contract, the docs.
check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs
	$(MAKE) test-all

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	$(BIN)/python docs/check_site.py docs/_build

# Runs the worked examples (minutes) and writes their notebooks, which `make docs` shows as they are.
examples: $(VENV)/.dev
	$(BIN)/python scripts/make_examples.py --again

bench: $(VENV)/.dev
	for suite in layers calls memory epoch scaling lab; do $(BIN)/graphnorms bench $$suite --threads 1,2 || exit; done
	$(BIN)/graphnorms bench page

# Measures every claim (about half an hour on two cores) and fills the page of the documentation in.
studies: $(VENV)/.dev
	$(BIN)/graphnorms study all
	$(BIN)/graphnorms study page

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The stamps make a second run quick; a change of the kernels or of the packages installs anew.
# A demonstration needs the kernels of this processor alone, which compile in half the time; and
# Python is compiled on every core, which pip does on one.
$(VENV)/.lab: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-compile \
		-C cmake.define.GRAPHNORMS_SETS=native -e '.[lab]'
	$(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib || true
	touch $@

$(VENV)/.dev: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.lab

clean:
	rm -rf $(VENV) build docs/_build docs/norms
