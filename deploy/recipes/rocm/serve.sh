#!/usr/bin/env bash
# usage: MODEL=/models/MiniMax-M2.5 TP=2 ./serve.sh none|hbm|dram
# MiniMax-M2: EXTRA="--tool-call-parser minimax_m2 --reasoning-parser minimax_m2 --trust-remote-code"
set -euo pipefail
# shellcheck disable=SC2034  # read by what is sourced
platform_env=(-e VLLM_FLOAT32_MATMUL_PRECISION=high) platform_flags=()
# shellcheck source=../serve-common.sh
source "$(dirname "$0")/../serve-common.sh"
