#!/usr/bin/env bash
# All checks that need no test run, cheapest first.
source "$(dirname "$0")/lib.sh"
cd "$root"

main() {
  step 'packages and compilers' hack/setup.sh
  step 'formatting' formatting
  step 'shellcheck' scripts
  step 'mutations' mutations
  step 'clippy' clippy
  step 'generated files' generated
  step 'dependencies' hack/deny.sh
  step 'chart' hack/chart-test.sh
}

formatting() {
  cargo fmt --all --check
  local unformatted
  unformatted=$(gofmt -l tests/cluster)
  [[ -z $unformatted ]] || die "not formatted (make fmt): $unformatted"
}

scripts() { shellcheck hack/*.sh .ci/run; }

# As hack/mutations.sh applies them. Whether their tests notice is not asked here: that takes minutes.
mutations() {
  local patch
  for patch in tests/mutations/*.patch; do
    git apply -C1 --recount --check "$patch" || die "$patch does not apply to the sources any more: mend it"
  done
}

clippy() { cargo clippy --locked --workspace --all-targets -- --deny warnings; }

# Into another folder, so that a check changes nothing.
generated() {
  local fresh
  fresh=$(mktemp -d)
  cargo run --locked --quiet --package paddock-api --features crdgen --bin crdgen -- "$fresh"
  diff --recursive --brief crds "$fresh" || die "crds/ is not what the types say: run make generate and commit"
  rm -rf "$fresh"
}

if (($#)); then "$@"; else main; fi
