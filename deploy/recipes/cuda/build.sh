#!/usr/bin/env bash
# The container for NVIDIA GPUs: vLLM's image and LMCache from its wheel.
set -euo pipefail
name=${NAME:-kvproxy-vllm}
image=${IMAGE:-vllm/vllm-openai:v0.32.0}
models=${MODELS:?set MODELS to the folder of your models}

docker run -d --name "$name" --entrypoint /bin/bash --gpus all --network=host --ipc=host \
    -v "$models":/models:ro "$image" -c 'sleep infinity'
docker exec "$name" pip install "lmcache==${LMCACHE_VERSION:-0.5.6}"
docker exec "$name" python3 -c 'import vllm, lmcache; print(vllm.__version__, lmcache.__file__)'
