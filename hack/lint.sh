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
  cargo run --locked --quiet --package paddock-gateway --features openapigen --bin openapigen -- "$fresh/openapi.json"
  diff --brief docs/openapi.json "$fresh/openapi.json" ||
    die "docs/openapi.json is not what the gateway's routes say: run make generate and commit"
  rm -rf "$fresh"
  openapi
}

# Against the official schema of OpenAPI 3.1, and that every reference has a target.
openapi() {
  local tools=$PADDOCK_CACHE/tools/openapi-$LIBOPENAPI_VALIDATOR_VERSION
  [[ -x $tools/validate ]] || GOBIN=$tools quiet libopenapi-validator.log \
    go install "github.com/pb33f/libopenapi-validator/cmd/validate@$LIBOPENAPI_VALIDATOR_VERSION"
  quiet openapi.log "$tools/validate" docs/openapi.json || die "docs/openapi.json is no valid OpenAPI document"
}

if (($#)); then "$@"; else main; fi
