#!/usr/bin/env bash
# Brings Paddock up on the local cluster (dev, or the one named), starts a session with kubectl, sends it a message, and
# tells how to go on.
source "$(dirname "$0")/lib.sh"

cluster=${1:-dev}
"$root/hack/up.sh" "$cluster"
# shellcheck source=/dev/null # written by up.sh
source "$(env_file "$cluster")"

events=$(mktemp)
watcher=
at_exit stop_watch

main() {
  kubectl delete session hello --ignore-not-found >/dev/null
  kubectl apply --filename "$root/examples/agent.yaml" >/dev/null
  say
  session
  message
  say
  how_to_go_on
}

# The watch runs before the apply, so that the start of another kubectl is not part of what is measured.
watch_session() {
  local query='watch=true&fieldSelector=metadata.name%3Dhello'
  query+='&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true'
  local stream
  exec {stream}< <(exec kubectl get --raw "/apis/paddock.dev/v1alpha1/namespaces/paddock/sessions?$query" 2>/dev/null)
  watcher=$!
  jq --unbuffered --raw-output '"\(.type) \(.object.status.phase // "-")"' <&"$stream" |
    while read -r event phase; do printf '%s %s %s\n' "$EPOCHREALTIME" "$event" "$phase"; done >"$events" &
  wait_for BOOKMARK 10 >/dev/null || die "the API server does not answer a watch; is the cluster up? See: kubectl get nodes"
}

stop_watch() {
  [[ -z $watcher ]] || kill "$watcher" 2>/dev/null || true
  rm -f "$events"
}

# wait_for PATTERN SECONDS: prints when the first event that matches was seen, in microseconds.
wait_for() {
  local deadline=$((SECONDS + $2)) seen
  until seen=$(grep --max-count 1 "$1" "$events"); do
    ((SECONDS < deadline)) || return 1
    sleep 0.01
  done
  seen=${seen%% *}
  printf '%s\n' "${seen/./}"
}

session() {
  local applied created ready
  watch_session
  say '$ kubectl apply -f examples/session.yaml'
  applied=${EPOCHREALTIME/./}
  kubectl apply --filename "$root/examples/session.yaml" >&2
  ready=$(wait_for ' Ready$' 300) || {
    kubectl get session hello --output wide >&2
    die "the session is not Ready after 5 minutes; see: source .dev/env; kubectl describe session hello"
  }
  created=$(wait_for ADDED 1)
  kubectl get session hello >&2
  say "    Ready $(((ready - created) / 1000)) ms after the API server had the session, $(((ready - applied) / 1000)) ms after kubectl was started"
  say "    $(kubectl get session hello --output go-template='{{with .status.startup}}({{.path}} start: sandbox claimed after {{.claimedMs}} ms, session bound after {{.activatedMs}} ms){{end}}')"
}

message() {
  local text='Write hello.txt with a greeting, then show it.' url answer pod
  # The scripted model does what lines with an exclamation mark say; a real one gets the plain words.
  [[ -n ${MODEL_BASE_URL:-} ]] || text+=$'\n!run echo "Hello from $(hostname)" > hello.txt && cat hello.txt'
  url=$PADDOCK_URL/api/v1/managed_agents/sessions/hello/message
  say
  say "\$ curl ... -d '$(jq --null-input --arg text "$text" --compact-output '{$text}')' \$PADDOCK_URL/api/v1/managed_agents/sessions/hello/message"
  local started=${EPOCHREALTIME/./}
  answer=$(jq --null-input --arg text "$text" '{$text}' |
    curl --silent --show-error --fail-with-body --noproxy '*' --max-time 1800 \
      --header @<(printf 'Authorization: Bearer %s\n' "$PADDOCK_KEY") \
      --header 'Content-Type: application/json' --data-binary @- "$url") ||
    die "the message failed: $answer; see: source .dev/env; kubectl -n paddock logs deployment/paddock-gateway"
  say "    the agent's reply, after $(((${EPOCHREALTIME/./} - started) / 1000)) ms:"
  jq --raw-output '.parts[] | select(.type == "text") | .text | rtrimstr("\n")' <<<"$answer" | sed 's/^/    | /' >&2
  pod=$(kubectl get session hello --output 'jsonpath={.status.pod.name}')
  say
  say "\$ kubectl exec $pod -- cat hello.txt"
  kubectl exec "$pod" --container harness -- cat hello.txt 2>&1 | sed 's/^/    | /' >&2
}

how_to_go_on() {
  local env
  env=$(env_file "$cluster")
  cat >&2 <<EOF
Go on with:

  source ${env#"$root/"}        # KUBECONFIG, PADDOCK_URL, PADDOCK_KEY, and kubectl in PATH
  kubectl get sessions,sandboxes,sandboxwarmpools
  curl -H "Authorization: Bearer \$PADDOCK_KEY" -H 'Content-Type: application/json' \\
       -d '{"text": "What is in this folder?\n!run ls -l"}' \$PADDOCK_URL/api/v1/managed_agents/sessions/hello/message
  curl -X POST -H "Authorization: Bearer \$PADDOCK_KEY" \$PADDOCK_URL/api/v1/managed_agents/agents/coder/session

  make down              # removes all of it

Total: $(took $((SECONDS - script_started)))
EOF
}

main
