# Everything that a fresh machine needs is installed here, into .venv. Two commands matter: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two threads per process by default: the suite and the demo are made for two cores.
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM = false

.PHONY: setup demo picture test test-slow test-against-trl mutants curves check format clean

setup: $(STAMP)

# torch comes first and by name: without a pin it resolves to a CUDA build of several GB.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,math,envs,data,lora]' tensorboard
	touch $@

demo: $(STAMP)
	$(BIN)/laurel demo

picture: $(STAMP)
	$(BIN)/python docs/draw_demo.py

# Any of studies/: `make study-trust-region` runs studies/trust_region.py.
study-%: $(STAMP)
	$(BIN)/python -m studies.$(subst -,_,$*)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist worksteal

# Every loss over given answers beside TRL's own code, in the virtual environment of the benchmarks: TRL is needed nowhere else.
test-against-trl:
	benchmarks/setup_trl.sh
	benchmarks/.trl-venv/bin/python -m pip install --quiet hypothesis pydantic pytest pytest-timeout pytest-xdist PyYAML rich typer
	PYTHONPATH=. OMP_NUM_THREADS=1 benchmarks/.trl-venv/bin/python -m pytest -p no:cacheprovider tests/objectives/test_losses_against_trl.py

# Lines of the package are made wrong one at a time, in a copy: at least 95 % of these faults have to fail a test.
mutants: $(STAMP)
	$(BIN)/python mutants/mutate.py

# Every online method on two tasks, five seeds each: about a quarter of an hour on two cores. What is done is kept.
curves: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.learning

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
