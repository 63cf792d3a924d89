#!/usr/bin/env bash
# Prints the path of a harness's program, of the version that its image has, fetched once. For the runner's tests.
#
#   harness.sh opencode|claude-code|codex
source "$(dirname "$0")/lib.sh"

remove_work() { rm -rf "$work"; }

harness=${1:-}
case $(uname -m) in
  x86_64) arch=x64 triple=x86_64-unknown-linux-musl ;;
  aarch64) arch=arm64 triple=aarch64-unknown-linux-musl ;;
  *) die "the harnesses have no builds for $(uname -m)" ;;
esac
# version ARG: as the image says it.
version() { sed -n "s/^ARG $1=//p" "$root/images/$harness/Containerfile"; }
# The npm package, the folder in it that is kept, and the program in that.
case $harness in
  opencode)
    version=$(version OPENCODE_VERSION) package=opencode-linux-$arch@$version tree=package/bin program=opencode ;;
  claude-code)
    version=$(version CLAUDE_CODE_VERSION)
    package=@anthropic-ai/claude-code-linux-$arch@$version tree=package program=claude ;;
  codex)
    version=$(version CODEX_VERSION)
    package=@openai/codex@$version-linux-$arch tree=package/vendor/$triple program=bin/codex ;;
  *) die "which harness? opencode, claude-code or codex" ;;
esac
folder=$PADDOCK_CACHE/tools/$harness-$version
if [[ ! -x $folder/$program ]]; then
  command -v npm >/dev/null || die "npm is not in PATH: install Node.js ($harness is fetched from the npm registry)"
  mkdir -p "$PADDOCK_CACHE/tools"
  # Beside its place, so that it gets there in one step.
  work=$(mktemp -d "$PADDOCK_CACHE/tools/.$harness.XXXXXX")
  at_exit remove_work
  (cd "$work" && quiet "$harness.log" npm pack --silent "$package" && tar -xzf ./*.tgz "$tree")
  chmod 0755 "$work/$tree/$program"
  rm -rf "$folder"
  mv "$work/$tree" "$folder"
fi
printf '%s\n' "$folder/$program"
