# `make reproduce` does everything; `make help` lists the rest.

SHELL := /bin/bash
PYTHON ?= python3
# What runs the pipeline; on a cluster: make study REPRO='python -m diffplast.cluster --scheduler ADDRESS'
REPRO ?= $(PAIRED_$(SCALE)) dvc repro
# At smoke most of a stage is the start of Python, on one core: two at a time. Longer training is faster alone. What
# fails here, or is of a task that is not named here, `dvc repro` does after that.
pipelines = $(foreach task,$(1),stages/$(task)/dvc.yaml)
PAIRED_smoke = printf '%s\n' '$(call pipelines,maze binary binary_small)' '$(call pipelines,images omniglot)' | \
  xargs -P 2 -L 1 dvc --wait-for-lock repro;
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint requirements.lock
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where this is set, every process would compile torch and the rest from source again: 4 s of each of the stages.
unexport PYTHONDONTWRITEBYTECODE

# The seeds of each scale. DVC's matrix takes them from params.yaml, where `make reproduce SCALE=...` writes them.
SEEDS_smoke := binary.seeds=[0] binary_small.seeds=[0] images.seeds=[0] omniglot.seeds=[0] maze.seeds=[0]
SEEDS_laptop := binary.seeds=[0,1] binary_small.seeds=[0,1] images.seeds=[0,1] omniglot.seeds=[0,1] maze.seeds=[0,1]
SEEDS_paper := binary.seeds=[0,1,2,3,4,5,6,7,8,9] binary_small.seeds=[0,1,2] images.seeds=[0,1,2,3] \
  omniglot.seeds=[0,1,2] maze.seeds=[0,1,2,3,4]

# The data of `make study`: from the official addresses, or copies that MIRRORS and IMAGES name. Copies are linked into
# downloads/, so that no path of one machine gets into params.yaml or dvc.lock.
COPIES = $(if $(MIRRORS),$(wildcard $(MIRRORS)/images_background.zip $(MIRRORS)/images_evaluation.zip \
  $(MIRRORS)/cifar-10-binary.tar.gz))
copy = $(if $(filter %/$(2),$(COPIES)),$(1).mirror=downloads/$(2) \
  $(1).sha256=$(shell sha256sum $(MIRRORS)/$(2) | cut -d " " -f 1))
STUDY_DATA = datasets.omniglot=omniglot datasets.images=$(if $(IMAGES),folder,cifar10) \
  $(call copy,data.omniglot.omniglot.background,images_background.zip) \
  $(call copy,data.omniglot.omniglot.evaluation,images_evaluation.zip) \
  $(call copy,data.images.cifar10.archive,cifar-10-binary.tar.gz) \
  $(if $(IMAGES),data.images.folder.path=downloads/$(notdir $(IMAGES)) data.images.folder.test_share=0.2 \
  "data.images.folder.description=$(or $(IMAGES_ARE),null)")

.PHONY: help reproduce study setup develop check test test-all lint bench report lock clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

reproduce: setup ## set up, then run the whole pipeline; SCALE=smoke|laptop|paper first sets the scale and its seeds
	python -m diffplast.core.params $(if $(SCALE),scale=$(SCALE) $(SEEDS_$(SCALE)))
	python -m diffplast.plasticity.warm_up & $(REPRO)
	@$(MAKE) --no-print-directory report

# MIRRORS=folder has archives under their official names; IMAGES=zip is used in place of CIFAR-10, described by IMAGES_ARE.
study: setup     ## the long study on Omniglot and CIFAR-10: 10 to 14 hours on 2 cores
	mkdir -p downloads
	$(if $(COPIES)$(IMAGES),ln -sfn $(abspath $(COPIES) $(IMAGES)) downloads/)
	python -m diffplast.core.params scale=paper $(SEEDS_paper) $(STUDY_DATA)
	$(REPRO)
	cp params.yaml reports/paper/
	@# The study's part of every dvc.lock: elsewhere its many runs would have DVC rewrite thousands of lines per stage.
	for lock in dvc.lock stages/*/dvc.lock; do mkdir -p reports/paper/locks/$$(dirname $$lock) && \
	  awk '/^[^ ]/ {keep = 1} /^  [^ ]/ {keep = /@paper/} keep' $$lock > reports/paper/locks/$$lock; done
	@$(MAKE) --no-print-directory report

setup: $(BIN)/.done ## make the virtual environment with the pinned packages

develop: $(BIN)/.develop ## add what tests, lint, benchmarks and the cluster need

$(BIN)/.done: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(INSTALL) pip==25.3  # needs half the time of the one that comes with Python 3.11
	$(INSTALL) --editable .
	@touch $@

$(BIN)/.develop: $(BIN)/.done
	$(INSTALL) --editable '.[dev]'
	@touch $@

check: setup     ## check params.yaml
	python -m diffplast.core.params

test: develop    ## run the tests (under 10 minutes, no network)
	python -m pytest -m 'not slow'

test-all: develop ## run all tests, those too that take minutes
	python -m pytest

lint: develop    ## check style
	ruff check .

bench: develop   ## check the fast recurrences against the naive one, then time them; kept in benchmarks/results.md
	set -o pipefail; python -m benchmarks | tee benchmarks/results.md

report: setup    ## print where the report of the current scale is
	@echo "$(CURDIR)/reports/$$(sed -nE 's/^scale: *([a-z]+).*/\1/p' params.yaml)/index.html"

lock:            ## renew requirements.lock from a fresh environment
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --editable '.[dev]'
	{ head -n 1 requirements.lock; build/lock/bin/pip freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; } > build/new.lock
	mv build/new.lock requirements.lock

clean:           ## remove the environment and unfinished runs; results and DVC's cache stay
	rm -rf .venv build checkpoints live/*
