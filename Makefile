# The whole developer interface; continuous integration calls it too.
MODEL ?= starter
HOST ?= 127.0.0.1
PORT ?= 7860
RUN ?= runs/sailor
VENV := .venv
BIN := $(VENV)/bin

# The first Python that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help chat test long check starter pictures example bench peers

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

chat: $(VENV)/installed ## the chat page on the starter model; also MODEL=... HOST=... PORT=...
	$(BIN)/python app.py --model "$(MODEL)" --host "$(HOST)" --port "$(PORT)"

# A core for each worker, and for each a single thread; the tests of a file share what they set up, so they stay together.
test: $(VENV)/installed-dev ## every test; the browser tests too where a Chromium is found
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

long: $(VENV)/installed-dev ## the laws at length: every kill of every kind of run; an hour or more
	$(BIN)/python -m pytest -m long --timeout 7200

check: $(VENV)/installed-dev ## lint, format, types, and the layers of the imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

bench: $(VENV)/installed-dev ## speed, as ratios against something run side by side
	$(BIN)/python -m benchmarks.run

# Beside the libraries of .venv, torch among them, those that the peers need older ones of; found first, they win.
PEERS := .venv-peers
peers: $(VENV)/installed-dev ## what make bench compares fine-tuning with: open_flamingo and flamingo-mini
	$(BIN)/python -m venv $(PEERS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -r benchmarks/peers.txt
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps open_flamingo==2.0.1
	-$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation \
		git+https://github.com/dhansmair/flamingo-mini

starter: $(VENV)/installed-dev ## train the starter model again from nothing, stage by stage; resumes where it stopped
	$(BIN)/python -m training.starter

pictures: $(VENV)/installed-dev ## the README's pictures of the chat, taken anew by the browser's test
	$(BIN)/python -m pytest tests/interfaces/test_web.py -k pictures_of_the_readme
	cp .artifacts/docs/*.png docs/

example: $(VENV)/installed-train ## fine-tune the starter to a new style on 60 pictures, in five minutes
	$(BIN)/python -m training.train --data data/samples/train --eval-data data/samples/heldout \
		--output "$(RUN)" --epochs 6 --learning-rate 1e-3

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps are touched last: an install that was cut short is taken up again by the next call.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/installed-train: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[train]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev,parity,train]'
	@touch $@ $(VENV)/installed $(VENV)/installed-train
