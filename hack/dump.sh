#!/usr/bin/env bash
# What a failed run leaves to look at: states, warnings and logs of a local cluster go to a file; its end is shown.
source "$(dirname "$0")/lib.sh"
cluster=${1:-dev}
KUBECONFIG=$(kubeconfig_of "$cluster")
export KUBECONFIG
file=$PADDOCK_CACHE/logs/dump-$cluster.txt

# section TITLE COMMAND...
section() {
  printf '\n===== %s\n' "$1"
  shift
  "$@" 2>&1 || true
}

{
  section 'nodes' kubectl get nodes --output wide
  section 'pods' kubectl get pods --all-namespaces --output wide
  section 'agents, sessions, sandboxes, pools' kubectl get agents,sessions,sandboxes,sandboxtemplates,sandboxwarmpools --all-namespaces --output wide
  section 'warnings' kubectl get events --all-namespaces --field-selector type=Warning --sort-by .lastTimestamp
  for component in controller gateway; do
    section "log of the ${component}s" kubectl --namespace paddock logs --prefix --tail 2000 --selector "app.kubernetes.io/component=$component"
  done
  section 'logs of sandboxes' kubectl --namespace paddock logs --prefix --tail 200 --selector paddock.dev/harness --all-containers
  section 'log of LiteLLM' kubectl --namespace models logs --tail 200 deployment/litellm
} >"$file" 2>&1

sed -n '/===== pods/,/===== log of the controllers/p' "$file" | head -n 120
for component in controller gateway; do
  printf '===== end of the log of the %ss\n' "$component"
  sed -n "/===== log of the ${component}s/,/=====/p" "$file" | tail -n 40
done
echo "all of it: $file"
