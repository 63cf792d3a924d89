#!/usr/bin/env bash
# From sources to a running Paddock on a local cluster (dev, or the one named). What is there already is kept: a second
# run without changes takes seconds. PADDOCK_HARNESSES='claude-agent-sdk claude-code codex' adds these harnesses, each with a
# pool of one; the image codex has a second one, codex-app-server.
source "$(dirname "$0")/lib.sh"
cluster=${1:-dev}
env_file=$(env_file "$cluster")
values=$env_file.values.yaml

main() {
  step 'packages and compilers' "$root/hack/setup.sh"
  step 'tools (Kubernetes, DNS, helm: minutes the first time)' tools
  step 'programs (static, release)' programs
  step 'images' images
  step "cluster $cluster" up
  step 'images into the cluster' devcluster image load --name "$cluster" "${archives[@]}"
  step 'LiteLLM and the model' models
  step 'Paddock (helm upgrade --install)' paddock
  step 'gateway and controller ready' ready
  step 'pools warm' warm
  write_env
  say "    ${env_file#"$root/"} has KUBECONFIG, PADDOCK_URL and PADDOCK_KEY"
}

tools() {
  make_devcluster
  devcluster build >/dev/null
}

programs() { binaries=$("$root/hack/build.sh"); }

images() {
  local list
  list=$("$root/hack/images.sh" "$binaries")
  mapfile -t archives <<<"$list"
}

up() {
  devcluster up --name "$cluster" >/dev/null
  KUBECONFIG=$(devcluster kubeconfig --name "$cluster")
  export KUBECONFIG
}

# image_id NAME: names the content of an image; devcluster puts it into the archive's file name.
image_id() {
  local archive
  for archive in "${archives[@]}"; do
    if [[ ${archive##*/} == "$1"-????????????.tar ]]; then
      archive=${archive##*/}
      echo "${archive%.tar}"
    fi
  done
}

models() {
  litellm_key=$("$root/hack/models.sh" "$cluster" "$(image_id litellm)" "$(image_id scripted-model)")
}

# One tag stands for changing images, so the pods say by an annotation which they were made from.
paddock() {
  mkdir -p "$root/.dev"
  (umask 077 && cat >"$values") <<EOF
modelGateway:
  apiKey: $litellm_key
controller:
  podAnnotations: {image: $(image_id controller)}
gateway:
  podAnnotations: {image: $(image_id gateway)}
pools:
  opencode:
    podAnnotations: {image: $(image_id opencode), runner: $(image_id runner)}
$(more_pools)
EOF
  kubectl create namespace paddock --dry-run=client --output yaml | kubectl apply --filename - >/dev/null
  kubectl label namespace paddock --overwrite pod-security.kubernetes.io/enforce=restricted >/dev/null
  # Helm installs CRDs at the first time only; this brings changed ones.
  kubectl apply --server-side --force-conflicts --filename "$root/crds" >/dev/null
  quiet "helm-$cluster.log" helm upgrade --install paddock "$root/charts/paddock" --namespace paddock \
    --values "$root/hack/values-local.yaml" --values "$values"
}

more_pools() {
  local harness harnesses
  read -ra harnesses <<<"${PADDOCK_HARNESSES:-}"
  for harness in "${harnesses[@]}"; do
    one_pool "$harness" "$harness"
    [[ $harness != codex ]] || one_pool codex-app-server codex
  done
}

# one_pool HARNESS IMAGE
one_pool() {
  printf '  %s: {enabled: true, replicas: 1, podAnnotations: {image: %s, runner: %s}}\n' \
    "$1" "$(image_id "$2")" "$(image_id runner)"
}

ready() {
  local deployment
  for deployment in controller gateway; do
    kubectl --namespace paddock rollout status "deployment/paddock-$deployment" --timeout=180s >/dev/null ||
      explain paddock "app.kubernetes.io/component=$deployment"
  done
  kubectl --namespace models rollout status deployment/scripted-model deployment/litellm --timeout=240s >/dev/null ||
    explain models ''
}

warm() {
  local pool pools replicas
  read -ra pools <<<"opencode ${PADDOCK_HARNESSES:-}"
  for pool in "${pools[@]}"; do
    replicas=$(kubectl --namespace paddock get sandboxwarmpool "$pool" --output 'jsonpath={.spec.replicas}')
    kubectl --namespace paddock wait "sandboxwarmpool/$pool" --for="jsonpath={.status.readyReplicas}=$replicas" \
      --timeout=300s >/dev/null || explain paddock "paddock.dev/harness=$pool"
  done
}

# explain NAMESPACE SELECTOR: what to look at when pods don't become ready.
explain() {
  say "Pods of namespace $1:"
  kubectl --namespace "$1" get pods --output wide >&2
  say "Warnings:"
  kubectl --namespace "$1" get events --field-selector type=Warning --sort-by .lastTimestamp 2>/dev/null | tail -n 10 >&2
  say "Last lines of the logs:"
  kubectl --namespace "$1" logs --selector "$2" --all-containers --prefix --tail 10 >&2 || true
  say "Look further with: export KUBECONFIG=$KUBECONFIG; kubectl -n $1 describe pods; docs/troubleshooting.md"
  return 1
}

write_env() {
  local key url
  key=$(kubectl --namespace paddock get secret paddock-master-key --output go-template='{{.data.key | base64decode}}')
  url=http://$(kubectl --namespace paddock get service paddock-gateway --output 'jsonpath={.spec.clusterIP}')
  kubectl config set-context --current --namespace paddock >/dev/null
  (umask 077 && cat >"$env_file") <<EOF
export KUBECONFIG=$KUBECONFIG
export PADDOCK_URL=$url
export PADDOCK_KEY=$key
# kubectl and helm.
export PATH=$PADDOCK_CACHE/tools/bin:\$PATH
EOF
}

main
