PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
RUN = $(VENV)/bin
INSTALL = $(RUN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable
WORKERS ?= 3
TESTS ?= tests
FUZZ_SECONDS ?= 120
FUZZ_SEED ?= 1
INSTALLED = $(VENV)/.installed
READY = $(VENV)/.ready
LINTERS = $(VENV)/.linters
WRITERS = $(VENV)/.writers

unexport PYTHONDONTWRITEBYTECODE  # compiled once, not again in each of hundreds of processes

SBOM ?= sbom.json
SBOM_OF ?= $(RUN)/python
SBOM_TOOL = $(VENV)-sbom

.PHONY: demo test test-slow fuzz lint docs sbom bench clean

$(INSTALLED): pyproject.toml
	@echo "Installing clesr and what it needs into $(VENV): PyTorch is large, this takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(READY): $(INSTALLED)
	@echo "Installing what the tests need into $(VENV): this takes some minutes."
	$(INSTALL) '.[test]'
	touch $@

$(LINTERS): $(READY)
	$(INSTALL) '.[lint]'
	touch $@

$(WRITERS): $(INSTALLED)
	$(INSTALL) '.[docs]'
	touch $@

demo: $(INSTALLED)
	$(RUN)/clesr demo --output demo --overwrite

# Tests start real servers, browsers and screens. What fails beside others runs once more, alone: it must pass then. In a
# process of its own also then: where a test ends it, whatever its status, that is a failure.
PYTEST = $(RUN)/python -m pytest -q
BESIDE = -n $(WORKERS) --dist worksteal
ALONE = -n 1 --last-failed --last-failed-no-failures none --maxfail 5

test: FAST = -m 'not slow and not cuda and not hardware' $(TESTS)
test: $(READY)
	$(PYTEST) $(BESIDE) $(FAST) || { echo 'Once more, alone:'; $(PYTEST) $(ALONE) $(FAST); }

test-slow: SLOW = -m 'slow and not cuda and not hardware' --durations 20
test-slow: $(READY) $(WRITERS)
	$(PYTEST) $(BESIDE) $(SLOW) || { echo 'Once more, alone:'; $(PYTEST) $(ALONE) $(SLOW); }

fuzz: $(READY)
	cd tests && PYTHONPATH=helpers ../$(RUN)/python -m fuzz.run all --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

lint: $(LINTERS)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/mypy tests benchmarks
	$(RUN)/lint-imports

docs: $(WRITERS)
	NO_MKDOCS_2_WARNING=1 $(RUN)/python -m mkdocs build --strict --quiet --site-dir site

$(SBOM_TOOL)/.installed:
	$(PYTHON) -m venv $(SBOM_TOOL)
	$(SBOM_TOOL)/bin/python -m pip install --quiet 'cyclonedx-bom>=7.5,<8'
	touch $@

# A tool in a folder of its own: it is no part of what it lists.
sbom: $(SBOM_TOOL)/.installed
	$(SBOM_TOOL)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-format JSON --output-file $(SBOM) $(SBOM_OF)

bench: $(READY)
	$(RUN)/python benchmarks/engines.py
	$(RUN)/python benchmarks/pipeline.py

clean:
	rm -rf $(VENV) $(SBOM_TOOL) build dist demo site sbom.json
