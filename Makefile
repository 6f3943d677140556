# `make demo` and `make test` need Python >= 3.11, git and make, and a package registry; they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1

.PHONY: demo test recompute test-quick parity bench lint format smoke figures laws-page reference-docs schema docs clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# The environment is made anew when what it is made from changes. torch comes from the constraints like all else.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# Packages that bitlaw is compared with have an environment of their own: they pin older versions of transformers.
.venv-parity/ready: pyproject.toml constraints-parity.txt
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints-parity.txt --editable '.[parity]'
	touch $@

demo: .venv/ready  ## run the study of params.yaml (the embedded demo) and make its report
	$(BIN)/dvc repro --quiet
	@$(BIN)/bitlaw summary

# A file's tests stay on one worker: they share what takes long to set up, such as a SLURM.
test: .venv/ready  ## run all tests but those of `make recompute`
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not recompute'

recompute: .venv/ready  ## make sixty cells of the reference study again, which takes minutes
	$(BIN)/python -m pytest -s -m recompute tests/unit/reference

test-quick: .venv/ready  ## run the tests that start neither Snakemake nor a browser nor SLURM nor an installation
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not workflow and not browser and not cluster and not install and not recompute'

parity: .venv-parity/ready  ## compare formats and GPTQ with other packages, bit for bit
	.venv-parity/bin/python -m pytest -n 2 tests/parity

bench: .venv-parity/ready  ## measure formats and GPTQ on one thread, beside other packages
	.venv-parity/bin/python benchmarks/fake_quantize.py
	.venv-parity/bin/python benchmarks/gptq.py

lint: .venv/ready  ## check style, types, workflow and schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint
	$(BIN)/bitlaw schema --check workflow/schemas/params.schema.json

format: .venv/ready  ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

figures: .venv/ready  ## draw the picture of the README from the study's table
	$(BIN)/bitlaw figure docs/figures/main.png

laws-page: .venv/ready  ## run the study of the Microscaling formats and write which law to trust into docs/laws.md
	$(BIN)/snakemake --cores all --config study=mx
	$(BIN)/bitlaw laws --study mx --into docs/laws.md
	$(BIN)/bitlaw laws --published --into docs/laws.md

reference-docs: .venv/ready  ## make every number and figure of the reference study's page from data/reference/
	$(BIN)/bitlaw card docs/reference-study.md
	$(BIN)/bitlaw figure docs/figures/total-bits.svg --of total-bits --table reference --text wikitext-2

schema: .venv/ready  ## write the JSON Schema of params.yaml
	$(BIN)/bitlaw schema --write workflow/schemas/params.schema.json

docs: .venv/ready  ## build the site of documentation into site/; a link or a docstring that is wrong fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

smoke: .venv/ready  ## run a study of minutes' size through Snakemake, twice; the second run must do nothing
	$(BIN)/snakemake --cores 2 --config study=smoke
	$(BIN)/snakemake --cores 2 --config study=smoke 2>&1 | grep -i 'nothing to be done'

clean:  ## remove results and the environment
	rm -rf .venv .venv-parity .bitlaw .snakemake results report logs site
