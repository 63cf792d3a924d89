#!/usr/bin/env bash
# Builds the programs as static release binaries and prints the folder they are in.
source "$(dirname "$0")/lib.sh"
cd "$root"

# An explicit target keeps the flags away from build scripts and proc macros, which can't be static.
target=$(rustc -vV | sed -n 's/^host: //p')
[[ $target == *-linux-gnu ]] || die "the images hold static Linux binaries: build on a Linux machine with the gnu target, not on $target"

RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$target" \
  -p paddock-controller -p paddock-gateway -p paddock-runner -p paddock-testkit >&2

printf '%s\n' "$CARGO_TARGET_DIR/$target/release"
