# Shared by the scripts beside it: folders, progress, tools. Sourced, never run.
# shellcheck shell=bash

set -euo pipefail
# Numbers with points, sorted the same everywhere.
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PADDOCK_REPO=$root
export PADDOCK_CACHE=${PADDOCK_CACHE:-$HOME/.cache/paddock}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PADDOCK_CACHE/target}
mkdir -p "$PADDOCK_CACHE/bin" "$PADDOCK_CACHE/logs"
# shellcheck source=hack/versions.env
source "$root/hack/versions.env"

# Programs of the project's own, kubectl and helm come before the machine's.
export PATH=$PADDOCK_CACHE/bin:$PADDOCK_CACHE/tools/bin:$PATH

script_started=$SECONDS

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# took SECONDS: a duration for people.
took() {
  if (($1 >= 60)); then printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); else printf '%ds' "$1"; fi
}

# step WHAT COMMAND...: tells what is done and how long it took; when it fails, the script ends and says in which step.
current_step=
step() {
  current_step=$1 step_started=$SECONDS
  shift
  say "==> $current_step"
  "$@"
  say "    done in $(took $((SECONDS - step_started))), $(took $((SECONDS - script_started))) in all"
  current_step=
}

# at_exit COMMAND: run when the script ends, however it ends.
exit_commands=()
at_exit() { exit_commands=("$1" "${exit_commands[@]}"); }

on_exit() {
  local code=$? command
  if ((code != 0)) && [[ -n $current_step ]]; then
    say "==> FAILED: $current_step, after $(took $((SECONDS - step_started)))"
  fi
  for command in "${exit_commands[@]}"; do eval "$command"; done
  exit "$code"
}
trap on_exit EXIT

# quiet LOG COMMAND...: keeps the output in a file, and shows its end when the command fails.
quiet() {
  local log=$PADDOCK_CACHE/logs/$1
  shift
  "$@" >"$log" 2>&1 || {
    local code=$?
    tail -n 30 "$log" >&2
    say "failed: $*  (all of its output: $log)"
    return $code
  }
}

# make_devcluster builds the tool that runs clusters; Go's cache makes this quick when nothing changed.
make_devcluster() {
  (cd "$root/tests/cluster/devcluster" && go build -buildvcs=false -o "$PADDOCK_CACHE/bin/devcluster" .)
}

kubeconfig_of() { printf '%s/clusters/%s/kubeconfig' "$PADDOCK_CACHE" "$1"; }

# Where a cluster's address and key are kept: .dev/env for the one named dev, .dev/NAME.env for others.
env_file() {
  if [[ $1 == dev ]]; then printf '%s/.dev/env' "$root"; else printf '%s/.dev/%s.env' "$root" "$1"; fi
}
