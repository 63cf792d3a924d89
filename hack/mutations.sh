#!/usr/bin/env bash
# Plants one bug after another in a copy of the sources and demands that the tests named in its patch notice: what nobody
# would notice is not tested. Prints a table; docs/mutations.md is one.
#
#   hack/mutations.sh [NAME...]     all of tests/mutations, or these
source "$(dirname "$0")/lib.sh"

patches=$root/tests/mutations
scratch=$PADDOCK_CACHE/mutations
copy=$scratch/source
# Its own, so that nothing planted is ever mistaken for something built; kept, so that only what changed is built again.
export CARGO_TARGET_DIR=$scratch/target
# One line changes at a time.
export CARGO_INCREMENTAL=1
# Nobody reads the backtraces.
export RUST_BACKTRACE=0

# Every run is a build; what runs is short.
quick=(--config 'profile.dev.package.paddock-core.opt-level=0')

survivors=0

main() {
  mkdir -p "$copy" "$scratch/logs"
  exec 9>"$scratch/lock"
  flock --nonblock 9 || die "another run uses $scratch; wait for it"
  local names=("$@") name
  if ((${#names[@]} == 0)); then
    mapfile -t names < <(cd "$patches" && printf '%s\n' *.patch | sed 's/\.patch$//')
  fi
  copy_sources
  echo '| mutation | the rule it breaks | caught by | seconds |'
  echo '| --- | --- | --- | --- |'
  for name in "${names[@]}"; do mutate "$name"; done
  ((survivors == 0)) || die "$survivors of ${#names[@]} mutations survived or could not be planted"
}

# As they are now, committed or not. Only what differs is copied, so cargo builds no more than that again; and it gets
# the time of now, so what was built with a bug in it is never taken for new.
copy_sources() {
  local file list=$scratch/files
  git -C "$root" ls-files --cached --others --exclude-standard | sort >"$list"
  while IFS= read -r file; do
    if [[ -f $root/$file ]] && ! cmp --silent "$root/$file" "$copy/$file"; then
      mkdir -p "$copy/$(dirname "$file")"
      cp "$root/$file" "$copy/$file"
    fi
  done <"$list"
  while IFS= read -r file; do
    if [[ ! -f $root/$file ]]; then rm "$copy/$file"; fi
  done < <(cd "$copy" && find . -type f -printf '%P\n')
}

# header NAME FIELD: a field of a patch's header.
header() { sed --quiet "s/^$2: //p" "$patches/$1.patch"; }

mutate() {
  local name=$1 log=$scratch/logs/$1.log started=$SECONDS verdict
  local -a test
  local code
  read -ra test <<<"$(header "$name" Test)"
  say "==> $name: cargo test ${test[*]}"
  if ! (cd "$copy" && git apply -C1 --recount "$patches/$name.patch") 2>"$log"; then
    verdict='**does not apply**' survivors=$((survivors + 1))
  else
    (cd "$copy" && cargo test --locked "${quick[@]}" --no-fail-fast "${test[@]}") >"$log" 2>&1 9>&- && code=0 || code=$?
    verdict=$(judge "$code" "$log") || survivors=$((survivors + 1))
    # Written now, so newer than what was built of the mutation: cargo builds it again.
    (cd "$copy" && git apply -C1 --recount --reverse "$patches/$name.patch")
  fi
  echo "| \`$name\` | $(header "$name" Rule) | $verdict | $((SECONDS - started)) |"
}

# A failed test catches it; code that no longer compiles proves nothing.
judge() {
  local code=$1 log=$2 first count
  first=$(sed --quiet --regexp-extended 's/^test (.*) \.\.\. FAILED$/\1/p' "$log" | head -n 1)
  count=$(grep --count --extended-regexp '^test .* \.\.\. FAILED$' "$log" || true)
  if [[ -n $first ]]; then
    if ((count > 1)); then echo "\`$first\` and $((count - 1)) more"; else echo "\`$first\`"; fi
  elif ((code == 0)); then
    echo '**survived**'
    return 1
  else
    echo "**no test ran**: $log"
    return 1
  fi
}

main "$@"
exit
