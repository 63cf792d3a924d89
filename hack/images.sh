#!/usr/bin/env bash
# Builds the images and prints their OCI archives, one a line. An image of which nothing changed is not built again.
#
#   images.sh [BINARIES]    the folder with the programs; they are built first when it is not given
source "$(dirname "$0")/lib.sh"

make_devcluster
binaries=${1:-$("$root/hack/build.sh")}
devcluster image build --binaries "$binaries" controller gateway runner opencode litellm scripted-model
