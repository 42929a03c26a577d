# make demo: set up and run the main job.   make test: set up and pass the tests.
# Nothing is needed beforehand but Python 3.11 or later and make.
export PYTHONDONTWRITEBYTECODE=
export MPLBACKEND = Agg
export UV_LINK_MODE = copy

PYTHON ?= python3
UV     := .tools/bin/uv
RUN    := .venv/bin/python -m
STAMP  := .venv/.ready-$(shell cksum requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: setup demo test slow lint types floors docs check bench lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	test -x $(UV) || { $(PYTHON) -m venv .tools && .tools/bin/pip install -q uv; }
	test -d .venv || $(UV) venv -q --python $(PYTHON) .venv
	$(UV) pip sync -q --python .venv/bin/python requirements.lock
	$(UV) pip install -q --python .venv/bin/python --no-deps -e .
	rm -f .venv/.ready-* && touch $@

demo: setup
	.venv/bin/deconf demo

test: setup
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile

slow: setup
	$(RUN) pytest -m slow

lint: setup
	$(RUN) ruff check . && $(RUN) ruff format --check . && .venv/bin/codespell

types: setup
	$(RUN) mypy

floors: setup
	.venv/bin/lint-imports

docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict -q

check: lint types floors docs

bench: setup
	$(RUN) benchmarks.erasure

lock: setup
	$(UV) pip compile pyproject.toml --group dev --all-extras --universal --generate-hashes --no-emit-index-url -q -o requirements.lock

clean:
	rm -rf .venv .tools site
