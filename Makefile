# Each target makes .venv itself; PYTHON chooses the interpreter that it is made with.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
BENCH := .venv-bench
ORACLES := .venv-oracles

.PHONY: demo examples test sweep lint bench survey survey-memory gpu oracles clean

demo: $(READY)
	$(RUN) examples/digits_mlp.py

examples: $(READY)
	$(RUN) examples/logistic_regression.py
	$(RUN) examples/graph_transforms.py
	$(RUN) examples/conventions.py
	$(RUN) examples/sequential_digits_lstm.py
	$(RUN) examples/digits_cnn.py

test: $(READY)
	$(RUN) -m pytest --numprocesses 2 --dist worksteal tests
	$(RUN) -m pytest README.md docs

# Longer: ten times the interrupts, forks, finalizers, random graphs and loops, and extremes, in machine code as users get it; all
# calls of all ops; all kernels to PTX for each GPU.
sweep: $(READY)
	MINIGRAPH_SWEEP=10 $(RUN) -m pytest tests/fuzz tests/functions/test_interrupts.py tests/functions/test_forks.py \
		tests/functions/test_reentry.py tests/functions/test_dropped_functions.py tests/ops/test_ops.py tests/ops/loop/test_loops.py \
		tests/specification tests/compiler/scalar tests/compiler/plan tests/compiler/cpu/test_native.py tests/compiler/cuda/test_cuda.py

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) tests/project/typed_tour.py

bench: $(BENCH)/.ready
	$(BENCH)/bin/python benchmarks/run.py

survey: $(BENCH)/.ready
	$(BENCH)/bin/python benchmarks/survey --families --save

survey-memory: $(BENCH)/.ready
	$(BENCH)/bin/python benchmarks/survey --memory --save

# With the libraries of an interpreter that has CuPy, and PyTorch and JAX to compare with; nothing is installed.
GPU_PYTHON ?= $(PYTHON)
gpu:
	$(GPU_PYTHON) benchmarks/gpu.py --save

oracles: $(ORACLES)/.ready
	$(ORACLES)/bin/python -m pytest tests/dialects/oracles/*_oracle.py

clean:
	rm -rf $(VENV) $(BENCH) $(ORACLES) build dist output

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(BENCH)/.ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

$(ORACLES)/.ready: pyproject.toml
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[oracles]'
	touch $@
