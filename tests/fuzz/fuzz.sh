#!/bin/bash
# Builds the fuzz targets and runs each for a while, $JOBS at once, from everything the project has as input. What they found is in
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

# fuzz TARGET: its output is kept until it ends, since several run at once.
fuzz() {
  local target=$1 corpus=$tree/corpus/$1 log=$tree/findings/$1.log
  mkdir -p "$corpus"
  local dictionary=() places=("tests/fuzz/corpus/$target")
  case $target in
    parse | check) dictionary=(-dict=tests/fuzz/job.dict) places+=("$seeds/source") ;;
    plan_reader) places+=("$seeds/plan") ;;
  esac
  "$tree/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$tree/findings/$target-" "${dictionary[@]}" "$corpus" "${places[@]}" > "$log" 2>&1 || touch "$log.found"
  echo "$target: $seconds s; $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
  [ ! -e "$log.found" ] || { tail -n 40 "$log"; echo "$target: found something, see above and $tree/findings/"; }
}

rm -f -- "$tree"/findings/*.log.found
for target in "${targets[@]}"; do
  while [ "$(jobs -pr | wc -l)" -ge "${JOBS:-$(nproc)}" ]; do
    wait -n
  done
  fuzz "$target" &
done
wait
! compgen -G "$tree/findings/*.log.found" > /dev/null
