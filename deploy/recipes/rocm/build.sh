#!/usr/bin/env bash
# The container for MI300X: vLLM's ROCm image, LMCache built with HIP, CUDA-only packages removed.
set -euo pipefail
name=${NAME:-kvproxy-vllm}
image=${IMAGE:-vllm/vllm-openai-rocm:v0.19.0}
models=${MODELS:?set MODELS to the folder of your models}
revision=${LMCACHE_REVISION:-main}

docker run -d --name "$name" --entrypoint /bin/bash \
    --device=/dev/kfd --device=/dev/dri --group-add video \
    --network=host --ipc=host --cap-add SYS_PTRACE \
    -v "$models":/models:ro "$image" -c 'sleep infinity'

# The wheel of LMCache is for CUDA: it is built here, and what it would pull in is taken out again.
docker exec -e BUILD_WITH_HIP=1 "$name" bash -euc "
    git clone --depth 1 --branch '$revision' https://github.com/LMCache/LMCache.git /opt/LMCache
    cd /opt/LMCache && pip install -e . --no-build-isolation
    pip uninstall -y nixl nixl-cu12 cupy-cuda12x cufile-python cuda-pathfinder
    python -c 'import vllm, lmcache; print(vllm.__version__, lmcache.__file__)'"
