#!/usr/bin/env bash
# What the documentation of LiteLLM Agent Platform has its readers do with curl: an agent, a session, a message, the end.
# Needs BASE (the platform's URL), KEY, and WORD, which the agent is to repeat. Prints the ids of what it made.
set -euo pipefail

api=$BASE/api/v1/managed_agents
auth=(-H "authorization: Bearer $KEY")
json=(-H "content-type: application/json")
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

agent=$(curl -sS "$api/agents" "${auth[@]}" "${json[@]}" \
  -d '{"name": "smoke", "harness_id": "opencode", "model": "scripted", "prompt": "You are a helpful assistant."}' | field id)
echo "agent $agent"

session=$(curl -sS -X POST "$api/agents/$agent/session" "${auth[@]}" "${json[@]}" -d '{"title": "smoke"}' | field id)
echo "session $session"

for ((n = 0; n < 200; n++)); do
  status=$(curl -sS "$api/sessions/$session" "${auth[@]}" | field status)
  [[ $status == creating ]] || break
  sleep 1.5
done
[[ $status == ready ]] || { echo "the session is $status" >&2; exit 1; }

reply=$(curl -sS -X POST "$api/sessions/$session/message" "${auth[@]}" "${json[@]}" -d "{\"text\": \"!say $WORD\"}" |
  python3 -c 'import json, sys; print("".join(part["text"] for part in json.load(sys.stdin)["parts"] if part["type"] == "text"))')
echo "reply $reply"

curl -sS "$api/sessions/$session/messages" "${auth[@]}" |
  python3 -c 'import json, sys; print("messages", *(message["info"]["role"] for message in json.load(sys.stdin)))'

# The first prompt of a session, whose reply is in `response`.
second=$(curl -sS "$api/agents/$agent/session?wait=300s" "${auth[@]}" "${json[@]}" \
  -d "{\"title\": \"review\", \"initial_prompt\": \"!say first-$WORD\"}" | field id)
echo "session $second"
for ((n = 0; n < 60; n++)); do
  first=$(curl -sS "$api/sessions/$second" "${auth[@]}" | python3 -c '
import json, sys
reply = json.load(sys.stdin)["response"]
print("".join(part["text"] for part in reply["parts"] if part["type"] == "text") if reply else "")')
  [[ -z $first ]] || break
  sleep 1
done
echo "response $first"

for id in "$session" "$second"; do
  echo "deleted $(curl -sS -X DELETE "$api/sessions/$id" "${auth[@]}" | field status)"
done
curl -sS -o /dev/null -w 'agent %{http_code}\n' -X DELETE "$api/agents/$agent" "${auth[@]}"
