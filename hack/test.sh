#!/usr/bin/env bash
# Every test there is: units, the cluster tool, the chart, and the scenarios on real clusters of their own (named test and
# test-api, or as TEST_CLUSTER says). A cluster that this script did not boot is never used, changed or removed.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/stages.sh"
cd "$root"

# One run of a name at a time. The lock is not handed on to what runs in it.
if [[ -z ${PADDOCK_TEST_LOCKED:-} ]]; then
  code=0
  PADDOCK_TEST_LOCKED=yes flock --nonblock --close --conflict-exit-code 75 "$PADDOCK_CACHE/test-${TEST_CLUSTER:-test}.lock" "$0" || code=$?
  ((code != 75)) || die "another make test runs with $PADDOCK_CACHE; wait for it, or give this one another name: TEST_CLUSTER=other make test"
  exit "$code"
fi

cluster=${TEST_CLUSTER:-test}
clusters=("$cluster-api" "$cluster")
# The cluster has every harness that there is an image of, each with a pool; scenarios use them all.
export PADDOCK_HARNESSES='claude-agent-sdk claude-code codex'

main() {
  stage 'setup' hack/setup.sh || counts
  stage 'names of the clusters' names_are_free || counts
  at_exit take_down_quietly
  stage 'cargo test' unit_tests || true
  stage 'go test (cluster tool)' go_tests || true
  stage 'chart' hack/chart-test.sh || true
  stage 'with the Claude Agent SDK' claude_agent_sdk || true

  if stage 'clusters' boot; then
    stage 'with a real API server, and real harnesses' real_parts || true
    if stage 'Paddock on the cluster' hack/up.sh "$cluster"; then
      stage 'scenarios on the cluster' scenarios || hack/dump.sh "$cluster" >&2 || true
      stage 'uninstall' uninstall || hack/dump.sh "$cluster" >&2 || true
    else
      skipped 'scenarios on the cluster' 'Paddock is not installed'
      skipped 'uninstall' 'Paddock is not installed'
    fi
  else
    skipped 'all tests that need a cluster' 'there is none'
  fi
  stage 'take-down' take_down || true
  counts
}

folder_of() { printf '%s/clusters/%s' "$PADDOCK_CACHE" "$1"; }

# Lies in the folder of a cluster that this script booted, and goes away with it. Nothing without it is ours to remove.
mark=booted-by-make-test

# What a killed run of ours left is removed; what anybody else booted stops us.
names_are_free() {
  local name
  for name in "${clusters[@]}"; do
    if [[ -e $(folder_of "$name")/$mark ]]; then
      hack/down.sh "$name" || return 1
    elif [[ -e $(folder_of "$name") ]]; then
      say "A cluster named $name exists that make test did not boot; somebody may be using it. Leave it alone with"
      say "TEST_CLUSTER=other make test, or remove it with hack/down.sh $name if it is yours."
      return 1
    fi
  done
}

# Checked again, because minutes have passed.
boot() {
  local name kind code=0
  make_devcluster && names_are_free || return 1
  for name in "${clusters[@]}"; do
    # Scenarios kill the spare node; nothing else is on it.
    if [[ $name == *-api ]]; then kind=--control-plane-only; else kind=--spare-nodes=1; fi
    devcluster up --name "$name" "$kind" >/dev/null || code=1
    # Also when it did not come up: what there is of it is ours.
    if [[ -d $(folder_of "$name") ]]; then echo "$root" >"$(folder_of "$name")/$mark"; fi
    ((code == 0)) || return 1
  done
}

take_down() {
  local name
  for name in "${clusters[@]}"; do
    if [[ -e $(folder_of "$name")/$mark ]]; then hack/down.sh "$name" || return 1; fi
  done
}

# An interrupted run leaves no cluster behind.
take_down_quietly() { take_down >/dev/null 2>&1 || true; }

go_tests() { (cd tests/cluster/devcluster && go vet . && go test -count=1 -v .); }

# Tests that need more than this repository: see real_parts, scenarios and uninstall. They are left out by name and not
# with --exclude: cargo would choose other features for the dependencies, and build those once more afterwards.
need_more=(apiserver apiserver_conformance claude_agent_sdk faults opencode opencode_equipment own_image permissions programs scenarios zz_uninstall)

unit_tests() {
  local targets
  targets=$(cargo metadata --locked --no-deps --format-version 1 |
    jq --raw-output '.packages[].targets[] | select(.kind == ["test"]) | .name
      | select(IN($ARGS.positional[]) | not) | "--test=\(.)"' \
      --args "${need_more[@]}") &&
    mapfile -t targets < <(sort --unique <<<"$targets") &&
    cargo test --locked --workspace --no-fail-fast --lib --bins "${targets[@]}" &&
    cargo test --locked --workspace --no-fail-fast --doc
}

claude_agent_sdk() {
  local folder
  folder=$(hack/claude-agent-sdk.sh) &&
    npm --prefix "$folder" --silent test &&
    PADDOCK_TEST_CLAUDE_AGENT_SDK=$folder cargo test --locked --workspace --no-fail-fast --test claude_agent_sdk --test permissions
}

real_parts() {
  local opencode claude_code codex kubeconfig
  opencode=$(hack/harness.sh opencode) &&
    claude_code=$(hack/harness.sh claude-code) &&
    codex=$(hack/harness.sh codex) &&
    kubeconfig=$(kubeconfig_of "$cluster-api") &&
    PADDOCK_TEST_OPENCODE=$opencode PADDOCK_TEST_CLAUDE_CODE=$claude_code PADDOCK_TEST_CODEX=$codex \
      PADDOCK_TEST_KUBECONFIG=$kubeconfig \
      cargo test --locked --workspace --no-fail-fast \
        --test apiserver --test apiserver_conformance --test faults --test opencode --test opencode_equipment --test own_image --test permissions --test programs \
        --test codex_app_server
}

scenarios() {
  local opencode clients
  opencode=$(hack/harness.sh opencode) && clients=$(hack/clients.sh) || return 1
  # shellcheck source=/dev/null # written by up.sh
  source "$(env_file "$cluster")"
  export PADDOCK_TEST_DEVCLUSTER=$PADDOCK_CACHE/bin/devcluster PADDOCK_TEST_CLUSTER=$cluster PADDOCK_TEST_SPARE_NODE=2
  export PADDOCK_TEST_OPENCODE=$opencode PADDOCK_TEST_CLIENTS=$clients
  # Most of them wait most of the time.
  RUST_TEST_THREADS=4 cargo test --locked --workspace --no-fail-fast --test scenarios
}

# The last chapter: it takes Paddock off the cluster.
uninstall() {
  # shellcheck source=/dev/null # written by up.sh
  source "$(env_file "$cluster")"
  cargo test --locked --workspace --test zz_uninstall -- --ignored
}

main
