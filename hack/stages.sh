# Runs the stages of a check, counts what passed and failed, and closes with the counts. Sourced after lib.sh.
# shellcheck shell=bash

: "${root:?}" "${script_started:?}"

passed=0 failed=0
stage_lines=()

# stage NAME COMMAND...: runs it, shows and keeps its output, and adds up the tests that it reports. A stage that reports
# none counts as one. Returns the command's status.
stage() {
  local name=$1 log started=$SECONDS code=0 counts ok bad
  shift
  log=$PADDOCK_CACHE/logs/stage-${name//[^A-Za-z0-9]/-}.log
  say "==> $name"
  "$@" </dev/null 2>&1 | tee "$log" >&2 || code=$?
  counts=$(awk -f "$root/hack/counts.awk" "$log")
  read -r ok bad <<<"$counts"
  if ((code != 0 && bad == 0)); then bad=1; fi
  if ((code == 0 && bad == 0 && ok == 0)); then ok=1; fi
  passed=$((passed + ok)) failed=$((failed + bad))
  stage_lines+=("$(printf '%-44s %5d passed %3d failed  %8s' "$name" "$ok" "$bad" "$(took $((SECONDS - started)))")")
  ((code == 0 && bad == 0))
}

# skipped NAME WHY: a stage that can't run after what happened before.
skipped() {
  failed=$((failed + 1))
  stage_lines+=("$(printf '%-44s not run: %s' "$1" "$2")")
}

# counts: the summary, and the line of counts as the last one. Ends the script.
counts() {
  {
    echo
    printf '%s\n' "${stage_lines[@]}"
    printf '%-44s %36s\n' total "$(took $((SECONDS - script_started)))"
    echo "$passed passed, $failed failed"
  }
  ((failed == 0 && passed > 0)) && exit 0
  exit 1
}
