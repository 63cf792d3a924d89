#!/usr/bin/env bash
# Measures the harnesses on the local cluster of `make up`, which it boots or updates, and writes docs/benchmarks-harnesses.md. Takes some
# minutes; run it on a machine that has nothing else to do.
#
#   BENCH_QUICK=1   once each, for working on the benchmark; the page goes to .dev/benchmarks-harnesses.md
source "$(dirname "$0")/lib.sh"
cd "$root"

page=docs/benchmarks-harnesses.md
effort=()
if [[ -n ${BENCH_QUICK:-} ]]; then
  page=.dev/benchmarks-harnesses.md
  effort=(--rounds 1)
fi

PADDOCK_HARNESSES='claude-agent-sdk claude-code codex' hack/up.sh
# shellcheck source=/dev/null
source .dev/env
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-C target-feature=+crt-static' nice -n 5 cargo build --locked --release --target "$target" -p paddock-bench
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[[ -z $(git status --porcelain 2>/dev/null) ]] || commit+=' with changes'
opencode=$(hack/harness.sh opencode)
step 'measuring' "$CARGO_TARGET_DIR/$target/release/paddock-bench" harnesses --opencode "$opencode" \
  --work "$PADDOCK_CACHE/bench/harnesses" --page "$page" --commit "$commit" "${effort[@]}"
say "    the page: $page"
