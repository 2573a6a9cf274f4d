#!/usr/bin/env bash
# usage: MODEL=/models/Qwen3-8B TP=1 ./serve.sh none|hbm|dram
set -euo pipefail
# shellcheck disable=SC2034  # read by what is sourced
platform_env=(-e HF_HUB_OFFLINE=1) platform_flags=()
# shellcheck source=../serve-common.sh
source "$(dirname "$0")/../serve-common.sh"
