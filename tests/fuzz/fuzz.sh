#!/bin/bash
# Builds the fuzz targets and runs each for a while, from everything the project has as input. What they found is in
# build/fuzz/findings; what they learnt stays in build/fuzz/corpus for the next time.
#
#   tests/fuzz/fuzz.sh [SECONDS [TARGET...]]        120 seconds each; needs clang and libclang-rt-14-dev
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
seconds=${1:-120}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(parse check plan_reader json_decode script_lowering)
tree=$root/build/fuzz
cd "$root"
[ -f "$tree/build.ninja" ] || cmake --preset fuzz
ninja -C "$tree" -j "${JOBS:-$(nproc)}" "${targets[@]/%/_fuzz}"

# Seeds: sources of all kinds, each block of code in the documents, golden plans.
seeds=$tree/seeds
rm -rf -- "$seeds"
mkdir -p "$seeds"/{source,plan} "$tree/findings"
for file in tests/golden/*/*.job tests/golden/*/*/*.job examples/*/*.job examples/*/*/*.job stdlib/*.job; do
  if [ -f "$file" ]; then cp -- "$file" "$seeds/source/${file//\//_}"; fi
done
awk -v to="$seeds/source" '
  /^```/ { if (inside) { close(name); inside = 0 } else if ($0 ~ /^```job/) { inside = 1; name = to "/" ++n ".job" }; next }
  inside { print > name }' docs/*.md
cp -- examples/*/*.plan.json "$seeds/plan/"

failed=0
for target in "${targets[@]}"; do
  corpus=$tree/corpus/$target
  mkdir -p "$corpus"
  dictionary=() places=("tests/fuzz/corpus/$target")
  case $target in
    parse | check) dictionary=(-dict=tests/fuzz/job.dict) places+=("$seeds/source") ;;
    plan_reader) places+=("$seeds/plan") ;;
  esac
  echo "$target: $seconds s"
  "$tree/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$tree/findings/$target-" "${dictionary[@]}" "$corpus" "${places[@]}" > "$tree/findings/$target.log" 2>&1 ||
    { failed=1; tail -n 40 "$tree/findings/$target.log"; echo "$target: found something, see above and $tree/findings/"; }
  grep -E '^stat::number_of_executed_units|DONE' "$tree/findings/$target.log" || true
done
exit $failed
