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
# Says that the clusters of these names are ours. Only a run that holds the lock writes or believes it.
mark=$PADDOCK_CACHE/test-run-$cluster

main() {
  stage 'setup' hack/setup.sh || counts
  stage 'names of the clusters are free' claim_names || counts
  at_exit take_down_rest
  stage 'cargo test' unit_tests || true
  stage 'go test (cluster tool)' go_tests || true
  stage 'chart' hack/chart-test.sh || true

  stage 'with a real API server, and opencode' real_parts || true
  if stage 'cluster with Paddock' hack/up.sh "$cluster"; then
    stage 'scenarios on the cluster' scenarios || hack/dump.sh "$cluster" >&2 || true
    stage 'uninstall' uninstall || hack/dump.sh "$cluster" >&2 || true
  else
    skipped 'scenarios on the cluster' 'there is no cluster to run them on'
    skipped 'uninstall' 'there is no cluster to run it on'
  fi
  stage 'take-down' take_down && taken_down=yes
  counts
}

# What a run of ours left behind when it was killed is removed; what somebody else runs stops us.
claim_names() {
  local name
  make_devcluster || return 1
  for name in "$cluster" "$cluster-api"; do
    [[ -d $PADDOCK_CACHE/clusters/$name ]] || continue
    if [[ ! -e $mark ]]; then
      say "cluster $name exists and was not booted by make test. Somebody may be using it: TEST_CLUSTER=another-name make test"
      say "leaves it alone; hack/down.sh $name removes it, if it is yours."
      return 1
    fi
    hack/down.sh "$name" || return 1
  done
  echo "$root, process $$" >"$mark"
}

# An interrupted run leaves no cluster behind.
taken_down=
take_down() { hack/down.sh "$cluster-api" && hack/down.sh "$cluster" && rm -f "$mark"; }
take_down_rest() { [[ -e $mark && -z $taken_down ]] && take_down >/dev/null 2>&1; return 0; }

go_tests() { (cd tests/cluster/devcluster && go vet . && go test -count=1 -v .); }

# Tests that need more than this repository: see real_parts, scenarios and uninstall. They are left out by name and not
# with --exclude: cargo would choose other features for the dependencies, and build those once more afterwards.
need_more=(apiserver opencode scenarios zz_uninstall)

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

real_parts() {
  local opencode kubeconfig
  opencode=$(hack/opencode.sh) &&
    make_devcluster &&
    kubeconfig=$(devcluster up --name "$cluster-api" --control-plane-only) &&
    PADDOCK_TEST_OPENCODE=$opencode PADDOCK_TEST_KUBECONFIG=$kubeconfig \
      cargo test --locked --workspace --no-fail-fast --test apiserver --test opencode
}

scenarios() {
  # shellcheck source=/dev/null # written by up.sh
  source "$(env_file "$cluster")"
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
