#!/usr/bin/env bash
# Checks licences, duplicates and sources of all dependencies, and known vulnerabilities where the advisories can be fetched.
source "$(dirname "$0")/lib.sh"
cd "$root"

folder=$PADDOCK_CACHE/tools/cargo-deny-$CARGO_DENY_VERSION
if [[ ! -x $folder/bin/cargo-deny ]]; then
  say "    building cargo-deny $CARGO_DENY_VERSION (once, some minutes)"
  CARGO_TARGET_DIR=$folder.build quiet cargo-deny.log cargo install --locked --root "$folder" "cargo-deny@$CARGO_DENY_VERSION"
  rm -rf "$folder.build"
fi

cargo fetch --locked --quiet
"$folder/bin/cargo-deny" --log-level error --offline --all-features --workspace check bans licenses sources

if timeout 60 "$folder/bin/cargo-deny" fetch db >"$PADDOCK_CACHE/logs/advisories.log" 2>&1; then
  "$folder/bin/cargo-deny" --all-features --workspace check advisories
else
  say "    advisories not checked: the database can't be fetched from here"
fi
