#!/usr/bin/env bash
# Builds the images and prints their OCI archives, one a line. An image of which nothing changed is not built again.
#
#   images.sh [BINARIES]    the folder with the programs; they are built first when it is not given
#
# PADDOCK_HARNESSES names harnesses beside opencode: PADDOCK_HARNESSES='claude-agent-sdk claude-code codex'.
source "$(dirname "$0")/lib.sh"

make_devcluster
binaries=${1:-$("$root/hack/build.sh")}
read -ra harnesses <<<"${PADDOCK_HARNESSES:-}"
devcluster image build --binaries "$binaries" controller gateway runner opencode "${harnesses[@]}" litellm scripted-model
