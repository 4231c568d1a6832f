# `make reproduce` does everything; `make help` lists the rest.

PYTHON ?= python3
SCALE ?= laptop
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint requirements.lock
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where these are set, every process would compile torch from source again, or nothing of ours at all, or be without this
# folder, or draw for a notebook.
unexport PYTHONDONTWRITEBYTECODE NUMBA_DISABLE_JIT PYTHONSAFEPATH MPLBACKEND PIP_PREFIX PIP_TARGET PYTHONHOME
export PIP_USER := 0
export PYTHONUTF8 := 1
# The environment holds the name of the folder that it was made in.
MADE_IN := $(shell cat $(BIN)/.done 2>/dev/null)
ifneq ($(MADE_IN),)
ifneq ($(MADE_IN),$(CURDIR))
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
$(error this folder was $(MADE_IN) when .venv was made: remove .venv, then run the same command again)
endif
endif
endif

.PHONY: help reproduce study setup develop verify relock check test test-all lint bench report lock clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/'

reproduce: setup ## set up, then run the pipeline at SCALE=smoke|laptop|study (laptop where none is given)
	python -m diffplast.core.params scale=$(SCALE)
	python -m diffplast.parallel
	@echo "$(CURDIR)/reports/$(SCALE)/index.html"

study: setup     ## the study on Omniglot and CIFAR-10, about 30 hours on 2 cores; see docs/study.md
	python -m stages.study

setup: $(BIN)/.done ## make the virtual environment with the pinned packages

develop: $(BIN)/.develop ## add what tests, lint, benchmarks and clusters need

$(BIN)/.done: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(INSTALL) pip==25.3  # needs half the time of the one that comes with Python 3.11
	$(INSTALL) --editable '.[reproduction]'
	@# A source archive: DVC then does without git.
	git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true
	@echo "$(CURDIR)" > $@

$(BIN)/.develop: $(BIN)/.done
	$(INSTALL) --editable '.[dev]'
	@touch $@

verify: setup    ## replay committed runs for 4 minutes with today's code and compare; see docs/verify.md
	python -m diffplast.verify --minutes 4

relock: setup    ## after an edit that changes no number: replay every run, then have DVC take today's code
	python -m diffplast.verify --relock

check: setup     ## check params.yaml
	python -m diffplast.core.params

test: develop    ## run the tests (under 10 minutes, no network)
	python -m pytest -m 'not slow'

test-all: develop ## run all tests, those too that take minutes
	python -m pytest

lint: develop    ## check style
	ruff check .

bench: develop   ## check the fast recurrences against the naive one, then time them; kept in benchmarks/results.md
	python -m benchmarks > benchmarks/results.new && mv benchmarks/results.new benchmarks/results.md

lock:            ## renew requirements.lock from a fresh environment
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --editable '.[dev]'
	{ head -n 1 requirements.lock; build/lock/bin/pip freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; } > build/new.lock
	mv build/new.lock requirements.lock

clean:           ## remove the environment and unfinished runs; results and DVC's cache stay
	rm -rf .venv build checkpoints live/*
