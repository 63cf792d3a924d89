#!/usr/bin/env bash
# Measures the gateway beside nginx and haproxy and writes docs/benchmarks-gateway.md. Takes some minutes; run it on a machine that
# has nothing else to do. Only a cluster named bench-gateway is used, and it is gone afterwards. All load goes to loopback addresses.
#
#   BENCH_QUICK=1   short, for working on the benchmark; the page goes to .dev/benchmarks-gateway.md
source "$(dirname "$0")/lib.sh"
cd "$root"

cluster=bench-gateway
work=$PADDOCK_CACHE/bench/gateway
page=docs/benchmarks-gateway.md
# A proxy has two files for each connection that it holds, and some more.
held=$((($(ulimit -Hn) - 600) / 2))
effort=(--held $((held < 10000 ? held : 10000)))
if [[ -n ${BENCH_QUICK:-} ]]; then
  mkdir -p .dev
  page=.dev/benchmarks-gateway.md
  effort=(--seconds 2 --held 500)
fi

main() {
  step 'packages and compilers' hack/setup.sh
  step 'nginx and haproxy' peers
  step 'tools (minutes the first time)' tools
  step 'programs (static, release)' programs
  at_exit take_down
  take_down
  step 'a cluster without nodes' furnish
  step 'measuring' measure
  say "    the page: $page; settings and logs: $work"
}

# Debian starts what it installs, unless the machine has no init, or is told that it is going down (RUNLEVEL=1).
peers() {
  local missing=()
  [[ -x /usr/sbin/nginx ]] || missing+=(nginx-light)
  [[ -x /usr/sbin/haproxy ]] || missing+=(haproxy)
  ((${#missing[@]})) || return 0
  quiet apt.log apt-get -o DPkg::Lock::Timeout=600 update
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive quiet apt.log apt-get -o DPkg::Lock::Timeout=600 install --yes --no-install-recommends "${missing[@]}"
}

tools() {
  make_devcluster
  devcluster build >/dev/null
}

# Copied aside, for the folder they are built in is shared.
programs() {
  local target program
  target=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS='-C target-feature=+crt-static' nice -n 5 cargo build --locked --release --target "$target" \
    -p paddock-gateway -p paddock-bench >&2
  mkdir -p "$work/bin"
  for program in paddock-gateway paddock-bench paddock-bench-runner; do
    install "$CARGO_TARGET_DIR/$target/release/$program" "$work/bin/$program"
  done
  commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
  [[ -z $(git status --porcelain 2>/dev/null) ]] || commit+=' with changes'
}

furnish() {
  devcluster up --name "$cluster" --control-plane-only >/dev/null
  KUBECONFIG=$(kubeconfig_of "$cluster")
  export KUBECONFIG
  kubectl apply --server-side --filename crds >/dev/null
  kubectl wait --for condition=Established crd --all --timeout 30s >/dev/null
  kubectl create namespace bench >/dev/null
}

measure() {
  (umask 077 && openssl genpkey -algorithm ed25519 -out "$work/signing-key.pem" 2>/dev/null)
  "$work/bin/paddock-bench" gateway --cluster "$PADDOCK_CACHE/clusters/$cluster" --gateway "$work/bin/paddock-gateway" \
    --runner "$work/bin/paddock-bench-runner" --signing-key "$work/signing-key.pem" --work "$work" \
    --page "$page" --commit "$commit" "${effort[@]}"
}

take_down() {
  if [[ -e $PADDOCK_CACHE/clusters/$cluster ]]; then devcluster down --name "$cluster" || true; fi
}

main
