#!/usr/bin/env bash
# usage: MODEL=… TP=… ./compare.sh rocm|cuda TRACES
# Starts each strategy in turn on port 8000 with kvproxy in front, replays TRACES against it, and
# leaves one report each and the comparison of all three. USERS, DURATION, MAX_CONTEXT as below.
set -euo pipefail
platform=${1:?rocm or cuda} traces=${2:?folder of traces}
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-results}
mkdir -p "$out"

finish() {
    kill "${proxy:-}" "${engine:-}" 2>/dev/null || true
    docker exec "${NAME:-kvproxy-vllm}" bash -c 'kill $(pgrep -f "vllm serve")' 2>/dev/null || true
    wait "${proxy:-}" "${engine:-}" 2>/dev/null || true
}
trap finish EXIT

for strategy in none hbm dram; do
    "$here/$platform/serve.sh" "$strategy" > "$out/$strategy.log" 2>&1 &
    engine=$!
    until curl -sf http://127.0.0.1:8000/health; do
        kill -0 "$engine" || { tail -n 20 "$out/$strategy.log" >&2; exit 1; }
        sleep 5
    done
    # Two exit codes are fine here: notes, and the warnings that `none` is there to show.
    kvproxy doctor --replica http://127.0.0.1:8000 --probe | tee "$out/$strategy.doctor" || true
    kvproxy serve --replica http://127.0.0.1:8000 --port 8080 2> "$out/$strategy.kvproxy.log" &
    proxy=$!
    until curl -sf http://127.0.0.1:8080/readyz > /dev/null; do sleep 1; done
    kvproxy loadgen --url http://127.0.0.1:8080 --traces "$traces" \
        --users "${USERS:-8}" --duration "${DURATION:-20m}" --max-context "${MAX_CONTEXT:-100k}" \
        --output "$out/$strategy" || [ $? = 3 ]  # 3: the client was late, which its report says
    finish
done
for strategy in none hbm dram; do
    printf '%-5s ' "$strategy"
    python3 -c 'import json, sys; s = json.load(open(sys.argv[1])); s = s.get("summary", s)
print(*(f"{k}={s.get(k)}" for k in ("requests", "hit_rate_reported", "ttft_mean_s", "ttft_p95_s")))' \
        "$out/$strategy/run.json"
done
