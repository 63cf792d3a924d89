#!/usr/bin/env bash
# Prints the folder where the clients of tests/clients are installed, with their packages, fetched once for each lock file.
source "$(dirname "$0")/lib.sh"

remove_work() { rm -rf "$work"; }

clients=$root/tests/clients
folder=$PADDOCK_CACHE/tools/clients-$(sha256sum <"$clients/package-lock.json" | cut -c1-12)
if [[ ! -d $folder ]]; then
  command -v npm >/dev/null || die "npm is not in PATH: install Node.js (the clients come from the npm registry)"
  work=$(mktemp -d "$PADDOCK_CACHE/tools/clients.XXXXXX")
  at_exit remove_work
  cp "$clients"/package.json "$clients"/package-lock.json "$work"
  (cd "$work" && quiet clients.log npm ci --ignore-scripts --no-audit --no-fund)
  mv "$work" "$folder"
fi
cp "$clients"/*.mjs "$clients"/*.sh "$folder"
printf '%s\n' "$folder"
