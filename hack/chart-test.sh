#!/usr/bin/env bash
# Checks of the chart that need no cluster: lint, renderings of sets of values, refused values.
source "$(dirname "$0")/lib.sh"
chart=$root/charts/paddock
cases=$chart/ci
failed=0

main() {
  # devcluster builds helm once.
  command -v helm >/dev/null || { make_devcluster && devcluster build >/dev/null; }
  check 'helm lint --strict' helm lint --strict --kube-version 1.33.0 "$chart" --values "$root/hack/values-local.yaml"
  local values
  for values in "$cases"/*-values.yaml; do
    check "renders as recorded: $(basename "$values")" as_recorded "$values"
  done
  check 'the rendering without values asks for images.registry' refused 'images.registry is empty'
  check 'a pool without a model gateway asks for it' refused 'modelGateway.baseUrl is empty' --set images.registry=r
  check 'a misspelt value is refused' refused "additional properties 'replica' not allowed" --set gateway.replica=3
  check 'a short master key is refused' refused '/auth/masterKey/value' --set auth.masterKey.value=short
  check 'a harness without image is refused' refused 'pools.x.image is empty' \
    --values "$root/hack/values-local.yaml" --set pools.x.harness=other
  local own=(--values "$root/hack/values-local.yaml" --set pools.x.harness=http --set pools.x.image=own:1)
  check 'a runner in the place of a command needs that command' refused 'pools.x.command is empty' \
    "${own[@]}" --set pools.x.http.runner=injected
  check 'an injected runner has no image of its own' refused 'pools.x.http.runnerImage is for' \
    "${own[@]}" --set pools.x.http.runner=injected --set pools.x.http.runnerImage=tools:1
  check "the runner's port is refused" refused '/pools/x/http/port' "${own[@]}" --set pools.x.http.port=7070
  check 'a feature that there is not is refused' refused '/pools/x/http/features' "${own[@]}" --set 'pools.x.http.features={fly}'
  check 'settings of http are of no other harness' refused 'pools.opencode.http is set' \
    --values "$root/hack/values-local.yaml" --set pools.opencode.http.port=4096
  check 'two gateways cannot share a database file' refused 'set transcripts.store to postgres' \
    --values "$root/hack/values-local.yaml" --set gateway.replicas=2
  check 'PostgreSQL needs its URL' refused 'transcripts.postgres.url is empty' \
    --values "$root/hack/values-local.yaml" --set transcripts.store=postgres
  check 'a Kubernetes that is too old is refused' refused 'requires kubeVersion' --kube-version 1.32.0
  ((failed == 0))
}

# check WHAT COMMAND...: one line for the counts, and what the command said when it failed.
check() {
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then
    echo "ok   $what"
  else
    echo "FAIL $what"
    printf '%s\n' "$said" | sed 's/^/     | /'
    failed=1
  fi
}

render() { helm template paddock "$chart" --namespace paddock --kube-version 1.33.0 "$@"; }

# Keys are made anew at each rendering, and so are their checksums.
masked() { sed -E 's|^(  key(\.pem)?: ).*|\1MADE-AT-INSTALL|; s|^( *checksum/(master\|signing)-key: ).*|\1OF-IT|'; }

as_recorded() {
  local recorded=${1%-values.yaml}-rendered.yaml
  if [[ -n ${UPDATE:-} ]]; then
    render --values "$1" 2>/dev/null | masked >"$recorded"
  fi
  diff -u "$recorded" <(render --values "$1" 2>/dev/null | masked) || {
    echo "if this is what it should be: UPDATE=1 hack/chart-test.sh"
    return 1
  }
}

# refused MESSAGE VALUES...: the rendering fails and says so.
refused() {
  local message=$1 said
  shift
  if said=$(render "$@" 2>&1); then
    echo 'it was rendered'
    return 1
  fi
  grep --fixed-strings --quiet -- "$message" <<<"$said" || {
    printf 'the message does not say "%s":\n%s\n' "$message" "$said"
    return 1
  }
}

main
