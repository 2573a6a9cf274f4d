#!/usr/bin/env bash
# Sourced by {rocm,cuda}/serve.sh, which set `platform_env` and `platform_flags`.
# usage: serve.sh none|hbm|dram     MODEL, TP, UTILIZATION, PORT, DRAM_GB, EVENTS_PORT, EXTRA
# shellcheck disable=SC2154  # platform_env and platform_flags come from who sources this
set -euo pipefail
strategy=${1:?none, hbm or dram}
name=${NAME:-kvproxy-vllm}
model=${MODEL:?set MODEL to the path inside the container}
events=${EVENTS_PORT:-5557}

env=(-e PYTHONHASHSEED=0 -e VLLM_HTTP_TIMEOUT_KEEP_ALIVE=60 "${platform_env[@]}")
flags=(
    --tensor-parallel-size "${TP:-1}" --gpu-memory-utilization "${UTILIZATION:-0.85}"
    --enable-prompt-tokens-details --enable-auto-tool-choice
    --host 0.0.0.0 --port "${PORT:-8000}" "${platform_flags[@]}"
)
case $strategy in
    none) flags+=(--no-enable-prefix-caching) ;;
    hbm | dram)
        flags+=(--enable-prefix-caching --kv-events-config
            "{\"enable_kv_cache_events\": true, \"publisher\": \"zmq\", \"endpoint\": \"tcp://*:$events\", \"replay_endpoint\": \"tcp://*:$((events + 100))\"}")
        ;;
    *) echo "none, hbm or dram, not $strategy" >&2; exit 2 ;;
esac
if [ "$strategy" = dram ]; then
    env+=(-e LMCACHE_LOCAL_CPU=true -e LMCACHE_CHUNK_SIZE=256
        -e "LMCACHE_MAX_LOCAL_CPU_SIZE=${DRAM_GB:-64}" -e LMCACHE_INTERNAL_API_SERVER_ENABLED=true)
    flags+=(--kv-transfer-config '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}')
fi
read -ra extra <<< "${EXTRA:-}"
exec docker exec "${env[@]}" "$name" vllm serve "$model" "${flags[@]}" "${extra[@]}"
