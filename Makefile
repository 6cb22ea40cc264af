# make book       build the website          make test      everything that must pass
# make check      what is quick of it        make serve     build it and show it on port 8000
# make notebook FILE=chapters/...ipynb       execute a notebook again and save it
# make colab      setup cells from _config.yml
# make lock       requirements.txt from pyproject.toml (needs uv; LOCK_ARGS=--upgrade for newest)
# make newest     .venv with the newest versions that pyproject.toml allows
# make clean      remove what was built (the .venv stays)
PYTHON    ?= python3
VENV      ?= .venv
# For instance PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS  ?=
LOCK_ARGS ?=
BIN       := $(VENV)/bin
SITE      := _build/html

# One thread a process: more than that makes these small models slower.
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export PYTHONHASHSEED = 0

UNIT  := $(BIN)/pytest -q -n 2 --dist worksteal
NBVAL := $(BIN)/pytest -q -n 2 --dist loadscope --nbval --nbval-current-env \
         --nbval-cell-timeout 300 --nbval-sanitize-with tests/sanitize.cfg
NOTEBOOKS = $(shell find chapters -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' 2>/dev/null)
# Changed since the branch left main, not committed, or new.
CHANGED = $(shell { git diff --name-only --diff-filter=d \
            $$(git merge-base HEAD main 2>/dev/null || echo HEAD) -- 'chapters/*.ipynb'; \
            git ls-files --others --exclude-standard -- 'chapters/*.ipynb'; } | sort -u)

.PHONY: book test check lint unit quick notebooks changed html links serve notebook colab lock \
        newest clean

book: html links
	@echo "The book is at $(CURDIR)/$(SITE)/index.html"

test: lint unit notebooks html links
	@echo "make test: all passed"

check: lint quick changed

lint: $(VENV)/.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: $(VENV)/.ok
	$(UNIT)

quick: $(VENV)/.ok
	$(UNIT) -m "not slow"

notebooks: $(VENV)/.ok
	@test -n "$(NOTEBOOKS)" || { echo "no notebook under chapters/" >&2; exit 1; }
	$(NBVAL) $(NOTEBOOKS)

changed: $(VENV)/.ok
	$(if $(CHANGED),$(NBVAL) $(CHANGED),@echo "no notebook changed")

# From nothing: an earlier build would hide broken links and warnings.
html: $(VENV)/.ok
	rm -rf _build
	$(BIN)/jupyter-book build . -W --keep-going

links: html
	$(BIN)/python tools/linkcheck.py $(SITE)

serve: book
	$(BIN)/python -m http.server --directory $(SITE) 8000

notebook: $(VENV)/.ok
	@test -n "$(FILE)" || { echo "usage: make notebook FILE=chapters/...ipynb" >&2; exit 2; }
	$(BIN)/python tools/execute.py $(FILE)

colab: $(VENV)/.ok
	$(BIN)/python tools/setup_cell.py

lock:
	$(PYTHON) tools/lock.py $(LOCK_ARGS)

newest:
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -q -U pip
	$(BIN)/pip install -q $(PIP_ARGS) -e '.[torch,chapters,book,dev]'
	@touch $(VENV)/.ok

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis

$(VENV)/.ok: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -U pip
	$(BIN)/pip install -q $(PIP_ARGS) -r requirements.txt
	$(BIN)/pip install -q --no-deps -e .
	@touch $@
