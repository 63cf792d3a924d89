#!/usr/bin/env bash
# Prints a folder with the program of images/claude-agent-sdk, its tests and its packages, which are fetched once for each lock file.
source "$(dirname "$0")/lib.sh"

remove_work() { rm -rf "$work"; }

program=$root/images/claude-agent-sdk
folder=$PADDOCK_CACHE/tools/claude-agent-sdk-$(sha256sum <"$program/package-lock.json" | cut -c1-12)
if [[ ! -d $folder ]]; then
  command -v npm >/dev/null || die "npm is not in PATH: install Node.js (the SDK comes from the npm registry)"
  mkdir -p "$PADDOCK_CACHE/tools"
  work=$(mktemp -d "$PADDOCK_CACHE/tools/.claude-agent-sdk.XXXXXX")
  at_exit remove_work
  cp "$program"/package.json "$program"/package-lock.json "$program"/.npmrc "$work"
  (cd "$work" && quiet claude-agent-sdk.log npm ci --no-audit --no-fund)
  mv "$work" "$folder"
fi
rm -rf "$folder/src" "$folder/test"
cp -r "$program/src" "$program/test" "$program/package.json" "$folder"
printf '%s\n' "$folder"
