# Run by the pod of `helm test`, with URL, KEY, AGENT and READY_TIMEOUT in the environment.

# request METHOD PATH: the body, then the status code on a line of its own. The key goes in by stdin, not by an argument.
request() {
  printf 'header = "Authorization: Bearer %s"\n' "$KEY" |
    curl --silent --show-error --max-time 20 --config - --request "$1" \
      --header 'Content-Type: application/json' --write-out '\n%{http_code}' "$URL$2"
}
code() { printf '%s\n' "$1" | tail -n 1; }
# field NAME: the first string of that name in the JSON on stdin.
field() { grep -o "\"$1\" *: *\"[^\"]*\"" | head -n 1 | sed 's/.*: *"\(.*\)"/\1/'; }
expect() {
  if [ "$2" != "$3" ]; then
    echo "FAIL $1: status $2, expected $3"
    exit 1
  fi
  echo "ok   $1"
}

expect 'no key is refused' \
  "$(curl --silent --show-error --max-time 20 --output /dev/null --write-out '%{http_code}' "$URL/agents")" 401
expect 'the key is accepted' "$(code "$(request GET /agents)")" 200

if [ -z "$AGENT" ]; then
  echo 'the values hold no agent: no session to try'
  exit 0
fi

# However this ends, it leaves no session behind.
id=
leave() { [ -z "$id" ] || request DELETE "/sessions/$id" >/dev/null 2>&1 || echo "session $id could not be deleted"; }
trap leave EXIT
trap 'exit 143' INT TERM

answer=$(request POST "/agents/$AGENT/session")
expect "a session of agent $AGENT is created" "$(code "$answer")" 200
id=$(printf '%s' "$answer" | field id)
deadline=$(($(date +%s) + READY_TIMEOUT))
while :; do
  answer=$(request GET "/sessions/$id")
  status=$(printf '%s' "$answer" | field status)
  case $status in
    ready) break ;;
    failed | dead)
      echo "FAIL session $id is $status: $(printf '%s' "$answer" | field failure_reason)"
      exit 1
      ;;
  esac
  if [ "$(date +%s)" -ge "$deadline" ]; then
    echo "FAIL session $id is $status after ${READY_TIMEOUT}s; see: kubectl describe session $id"
    exit 1
  fi
  sleep 1
done
echo 'ok   the session is ready'
expect 'the session is deleted' "$(code "$(request DELETE "/sessions/$id")")" 200
id=
