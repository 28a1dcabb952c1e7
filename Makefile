PYTHON ?= python3
BIN = .venv/bin
INSTALLED = .venv/.installed
# NVIDIA has no TensorRT-RTX for macOS; the tests of engines are skipped there.
EXTRAS = dev,export,cpu,openvino$(if $(filter Darwin,$(shell uname -s)),,$(comma)rtx)
comma := ,

.PHONY: demo test test-all lint kernel bench

demo: $(INSTALLED)  ## export the bundled checkpoint, prove it, forecast real series with it
	$(BIN)/python scripts/demo

test: $(INSTALLED)  ## the test suite
	$(BIN)/python -m pytest

test-all: $(INSTALLED)  ## the test suite with its slow tier: full-size models, sanitizers, all mutants
	$(BIN)/python -m pytest -m ""

lint: $(INSTALLED)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

kernel: $(INSTALLED)  ## build the CUDA kernel for every GPU, run it under the host emulator and its mutants
	$(BIN)/python scripts/kernel

bench: $(INSTALLED)  ## time every peer on this machine
	$(BIN)/python -m scripts.benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@
