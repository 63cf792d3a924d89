#!/usr/bin/env bash
# Prints the path of the opencode program of the version that images/opencode has, fetched once. For the runner's tests.
source "$(dirname "$0")/lib.sh"

remove_work() { rm -rf "$work"; }

version=$(sed -n 's/^ARG OPENCODE_VERSION=//p' "$root/images/opencode/Containerfile")
case $(uname -m) in
  x86_64) package=opencode-linux-x64 ;;
  aarch64) package=opencode-linux-arm64 ;;
  *) die "opencode has no build for $(uname -m)" ;;
esac
folder=$PADDOCK_CACHE/tools/opencode-$version
if [[ ! -x $folder/opencode ]]; then
  command -v npm >/dev/null || die "npm is not in PATH: install Node.js (opencode is fetched from the npm registry)"
  work=$(mktemp -d)
  at_exit remove_work
  (cd "$work" && quiet opencode.log npm pack --silent "$package@$version" && tar -xzf ./*.tgz package/bin/opencode)
  mkdir -p "$folder"
  install -m 0755 "$work/package/bin/opencode" "$folder/opencode.new"
  mv "$folder/opencode.new" "$folder/opencode"
fi
printf '%s\n' "$folder/opencode"
