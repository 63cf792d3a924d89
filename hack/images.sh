#!/usr/bin/env bash
# Builds the programs and the images, and prints the images' OCI archives, one a line. An image of which nothing
# changed is not built again.
source "$(dirname "$0")/lib.sh"

make_devcluster
binaries=$("$root/hack/build.sh")
devcluster image build --binaries "$binaries" controller gateway runner opencode litellm scripted-model
