PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin
WORKERS ?= 2
FUZZ_SECONDS ?= 120
FUZZ_SEED ?= 1
READY = $(VENV)/.ready

.PHONY: demo test test-slow fuzz lint bench clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --editable '.[test]'
	touch $@

demo: $(READY)
	$(RUN)/clesr demo --output demo --overwrite

test: $(READY)
	$(RUN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m 'not slow and not cuda and not hardware'

test-slow: $(READY)
	$(RUN)/python -m pytest -q -m 'slow and not cuda and not hardware'

fuzz: $(READY)
	cd tests && PYTHONPATH=helpers ../$(RUN)/python -m fuzz.run all --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

lint: $(READY)
	$(RUN)/python -m pip install --quiet --editable '.[lint]'
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/mypy tests benchmarks
	$(RUN)/lint-imports

bench: $(READY)
	$(RUN)/python benchmarks/engines.py
	$(RUN)/python benchmarks/pipeline.py

clean:
	rm -rf $(VENV) build dist demo
