#!/usr/bin/env bash
# Measures Paddock beside its peer agent-sandbox and writes docs/benchmarks.md. Takes most of an hour; run it on a machine
# that has nothing else to do. Only clusters named bench-... are used, and they are gone afterwards.
#
#   BENCH_QUICK=1          few repetitions, for working on the benchmark; the page goes to .dev/benchmarks.md
#   BENCH_IDLE_MINUTES=10  how long the idle systems are watched (2)
#   BENCH_PARTS="real"     only a part: real or fake nodes
#   BENCH_CHAPTERS=warm,burst  only these, on real nodes
source "$(dirname "$0")/lib.sh"
cd "$root"

real=(bench-real-paddock bench-real-peer)
fake=(bench-fake-paddock bench-fake-peer)
netns=bench-pods
work=$PADDOCK_CACHE/bench
page=docs/benchmarks.md
effort=(--idle-minutes "${BENCH_IDLE_MINUTES:-2}")
[[ -z ${BENCH_CHAPTERS:-} ]] || effort+=(--chapters "$BENCH_CHAPTERS")
if [[ -n ${BENCH_QUICK:-} ]]; then
  page=.dev/benchmarks.md
  effort+=(--quick)
fi

if [[ -z ${PADDOCK_BENCH_LOCKED:-} ]]; then
  code=0
  PADDOCK_BENCH_LOCKED=yes flock --nonblock --close --conflict-exit-code 75 "$PADDOCK_CACHE/bench.lock" "$0" || code=$?
  ((code != 75)) || die "another make bench runs with $PADDOCK_CACHE; wait for it"
  exit "$code"
fi

main() {
  read -r load _ </proc/loadavg
  step 'packages and compilers' hack/setup.sh
  step 'tools (minutes the first time)' tools
  step 'programs (static, release)' programs
  at_exit take_down
  take_down
  rm -rf "$work/logs"
  # A run of one part leaves what the other one measured.
  [[ -n ${BENCH_PARTS:-} ]] || rm -f "$work/results.jsonl"
  mkdir -p "$work/logs"
  (umask 077 && openssl genpkey -algorithm ed25519 -out "$work/signing-key.pem")
  local part
  for part in ${BENCH_PARTS:-real fake}; do
    step "clusters for $part nodes" "clusters_$part"
    step "measuring on $part nodes" measure "$part"
    keep_audit_logs "$part"
    take_down
  done
  step "the page $page" report
  say "    single values: $work/results.jsonl; logs: $work/logs"
}

tools() {
  make_devcluster
  devcluster build >/dev/null
  local go
  go=$(go env GOVERSION)
  peer=$(tool agent-sandbox build_peer "$go" tests/bench/peer/go.mod tests/bench/peer/go.sum)
  kwok=$(tool kwok build_kwok "$go $KWOK_VERSION")
}

# tool NAME BUILD WORDS FILES...: the folder of a tool in the cache, named after what it is made from. BUILD INTO fills it.
tool() {
  local name=$1 build=$2 words=$3 key folder
  shift 3
  key=$({ printf '%s\n' "bench 1" "$words" && cat /dev/null "$@"; } | sha256sum | cut -c1-12)
  folder=$PADDOCK_CACHE/tools/$name-$key
  if [[ ! -d $folder ]]; then
    say "    building $name (once, some minutes)"
    rm -rf "$folder.unfinished"
    mkdir -p "$folder.unfinished"
    CGO_ENABLED=0 GOFLAGS=-buildvcs=false quiet "$name.log" "$build" "$folder.unfinished"
    mv "$folder.unfinished" "$folder"
  fi
  printf '%s\n' "$folder"
}

# The controller, and the CRDs that belong to it.
build_peer() (
  cd tests/bench/peer
  nice -n 10 go build -trimpath -ldflags '-s -w' -o "$1/" sigs.k8s.io/agent-sandbox/cmd/agent-sandbox-controller || exit 1
  sources=$(go list -m -f '{{.Dir}}' sigs.k8s.io/agent-sandbox) || exit 1
  install -D --mode 644 --target-directory "$1/crds" "$sources"/k8s/crds/*.yaml
)

build_kwok() (
  cd /
  GOBIN=$1 nice -n 10 go install -trimpath -ldflags '-s -w' "sigs.k8s.io/kwok/cmd/kwok@$KWOK_VERSION"
)

# Copied aside, for the folder they are built in is shared.
programs() {
  local target from program
  target=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS='-C target-feature=+crt-static' nice -n 5 cargo build --locked --release --target "$target" \
    -p paddock-controller -p paddock-bench >&2
  from=$CARGO_TARGET_DIR/$target/release
  mkdir -p "$work/bin"
  for program in paddock-controller paddock-bench paddock-bench-runner; do
    install "$from/$program" "$work/bin/$program"
  done
  commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
  [[ -z $(git status --porcelain 2>/dev/null) ]] || commit+=' with changes'
}

clusters_real() {
  local image name
  image=$(devcluster image build --binaries "$work/bin" bench-runner)
  for name in "${real[@]}"; do
    devcluster up --name "$name" >/dev/null
    devcluster image load --name "$name" "$image"
  done
  furnish "${real[@]}"
}

clusters_fake() {
  local name
  for name in "${fake[@]}"; do devcluster up --name "$name" --control-plane-only >/dev/null; done
  furnish "${fake[@]}"
  pod_network
}

# The addresses of fake pods, 10.190.0.0/15, are all at one program in a network namespace of its own: the host's port 7070
# may be in use.
pod_network() {
  ip netns add "$netns"
  ip link add "$netns" type veth peer name eth0 netns "$netns"
  ip addr add 10.189.0.1/30 dev "$netns"
  ip link set "$netns" up
  ip -n "$netns" addr add 10.189.0.2/30 dev eth0
  ip -n "$netns" link set eth0 up
  ip -n "$netns" link set lo up
  ip -n "$netns" route add local 10.190.0.0/15 dev lo
  ip route add 10.190.0.0/15 via 10.189.0.2
}

# furnish PADDOCKS_CLUSTER PEERS_CLUSTER: kinds, and the account of the controllers.
furnish() {
  local crd
  kubectl --kubeconfig "$(kubeconfig_of "$1")" apply --server-side --filename crds >/dev/null
  for crd in "$peer"/crds/*.yaml; do
    # Conversion is done by the peer's webhook, which needs certificates; nothing here is to be converted.
    kubectl --kubeconfig "$(kubeconfig_of "$2")" create --dry-run=client --output json --filename "$crd" |
      jq '.spec.conversion = {strategy: "None"}' |
      kubectl --kubeconfig "$(kubeconfig_of "$2")" apply --server-side --filename - >/dev/null
  done
  kubectl --kubeconfig "$(kubeconfig_of "$1")" wait --for condition=Established crd --all --timeout 30s >/dev/null
  kubectl --kubeconfig "$(kubeconfig_of "$2")" wait --for condition=Established crd --all --timeout 30s >/dev/null
  account "$1"
  account "$2"
}

# account CLUSTER: the same for both controllers, so that the audit log tells what they wrote.
account() {
  local kubeconfig
  kubeconfig=$(kubeconfig_of "$1")
  kubectl --kubeconfig "$kubeconfig" create namespace bench >/dev/null
  kubectl --kubeconfig "$kubeconfig" --namespace bench create serviceaccount controller >/dev/null
  kubectl --kubeconfig "$kubeconfig" create clusterrolebinding bench --clusterrole cluster-admin --serviceaccount bench:controller >/dev/null
  local token
  token=$(kubectl --kubeconfig "$kubeconfig" --namespace bench create token controller --duration 24h)
  (umask 077 && kubectl --kubeconfig "$kubeconfig" config view --raw --flatten --minify --output json |
    TOKEN=$token jq '.users[0].user = {token: env.TOKEN}' >"${kubeconfig%/*}/controller.kubeconfig")
}

measure() {
  local -n clusters=$1
  "$work/bin/paddock-bench" "$1" \
    --paddock-cluster "$PADDOCK_CACHE/clusters/${clusters[0]}" --peer-cluster "$PADDOCK_CACHE/clusters/${clusters[1]}" \
    --paddock-controller "$work/bin/paddock-controller" --peer-controller "$peer/agent-sandbox-controller" \
    --kwok "$kwok/kwok" --runner "$work/bin/paddock-bench-runner" --netns "$netns" --signing-key "$work/signing-key.pem" \
    --results "$work/results.jsonl" --logs "$work/logs" "${effort[@]}"
}

# Who wrote what and how long it took, for those who ask where the time went.
keep_audit_logs() {
  local -n clusters=$1
  local name
  for name in "${clusters[@]}"; do cp "$PADDOCK_CACHE/clusters/$name/audit.log" "$work/logs/$name-audit.log"; done
}

report() {
  mkdir -p "$(dirname "$page")"
  "$work/bin/paddock-bench" report --results "$work/results.jsonl" --page "$page" --commit "$commit" --load "$load"
}

take_down() {
  local name
  for name in "${real[@]}" "${fake[@]}"; do
    if [[ -e $PADDOCK_CACHE/clusters/$name ]]; then devcluster down --name "$name" || true; fi
  done
  if [[ -e /run/netns/$netns ]]; then ip netns del "$netns"; fi # its link and routes go with it
}

main
