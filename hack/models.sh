#!/usr/bin/env bash
# Installs LiteLLM and the scripted model into namespace `models` of a local cluster, and prints LiteLLM's key.
# With MODEL_BASE_URL, MODEL and MODEL_API_KEY set, LiteLLM asks that model (an OpenAI-compatible API) instead.
#
#   models.sh CLUSTER ID_OF_IMAGE_LITELLM ID_OF_IMAGE_SCRIPTED_MODEL
source "$(dirname "$0")/lib.sh"
cluster=$1 litellm_image=$2 scripted_model_image=$3
KUBECONFIG=$(kubeconfig_of "$cluster")
export KUBECONFIG

# entry NAME MODEL: MODEL answers who asks for NAME.
entry() {
  printf '{model_name: "%s", litellm_params: {model: "openai/%s", ' "$1" "$2"
  printf 'api_base: os.environ/UPSTREAM_BASE_URL, api_key: os.environ/UPSTREAM_API_KEY}, model_info: {supports_native_streaming: true}}'
}

host_alias=
if [[ -n ${MODEL_BASE_URL:-} ]]; then
  models=$(entry '*' "${MODEL:?is not set, but MODEL_BASE_URL is: set it to the name of the model}")
  upstream_key=${MODEL_API_KEY:-none}
  relay=$("$root/hack/relay.sh" start "$cluster" "$MODEL_BASE_URL")
  read -r upstream_url host_ip host_name <<<"$relay"
  [[ -z $host_name ]] || host_alias="{ip: $host_ip, hostnames: [$host_name]}"
else
  "$root/hack/relay.sh" stop "$cluster"
  # What is said of a model holds for its very name only; these are those of the examples and the tests.
  models="$(entry '*' '*'), $(entry scripted scripted), $(entry coder-model coder-model)"
  upstream_url=http://scripted-model.models.svc:8080/v1
  upstream_key=none
fi

kubectl create namespace models --dry-run=client --output yaml | kubectl apply --filename - >/dev/null

# Made once in a cluster's life, so that a second run changes nothing.
litellm_key=$(kubectl --namespace models get secret litellm --ignore-not-found \
  --output go-template='{{index .data "master-key" | base64decode}}')
[[ -n $litellm_key ]] || litellm_key=sk-$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')

# Keys go by environment and pipe: arguments of a process can be read by others.
LITELLM_KEY=$litellm_key UPSTREAM_KEY=$upstream_key UPSTREAM_URL=$upstream_url jq --null-input '{
    apiVersion: "v1", kind: "Secret", metadata: {name: "litellm", namespace: "models"},
    stringData: {"master-key": env.LITELLM_KEY, "upstream-base-url": env.UPSTREAM_URL, "upstream-api-key": env.UPSTREAM_KEY}
  }' | kubectl apply --server-side --filename - >/dev/null

manifest() {
  local text settings
  text=$(<"$root/hack/manifests/$1")
  settings=$(printf '%s\n' "$text" "$models" "$upstream_url" "$upstream_key" | sha256sum | cut -c1-16)
  text=${text//@SCRIPTED_MODEL_IMAGE@/$scripted_model_image}
  text=${text//@LITELLM_IMAGE@/$litellm_image}
  text=${text//@MODELS@/$models}
  text=${text//@HOST_ALIAS@/$host_alias}
  printf '%s\n' "${text//@SETTINGS@/$settings}"
}
for file in scripted-model.yaml litellm.yaml; do
  manifest "$file" | kubectl apply --filename - >/dev/null
done

printf '%s\n' "$litellm_key"
