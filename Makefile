# practicum: `make demo` sets up and draws the page that compares noise schedules; `make test` sets up and runs the tests.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/set-up

export HF_HUB_OFFLINE ?= 1

.PHONY: setup demo test soak mutants lint bench constraints clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/practicum compare noise_schedules_digits

test: setup
	WANDB_MODE=offline OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

soak: setup
	WANDB_MODE=offline OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak -s --timeout 7200

mutants: setup
	WANDB_MODE=offline $(BIN)/python -m tests.mutants

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy experiments lightning_modules datamodules callbacks

bench: setup
	$(BIN)/python -m tests.benchmarks

constraints:
	$(BIN)/uv pip compile --universal --no-emit-index-url --no-header --no-annotate --all-extras --python-version 3.11 pyproject.toml -o constraints.txt --upgrade

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
