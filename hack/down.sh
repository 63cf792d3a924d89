#!/usr/bin/env bash
# Takes a cluster down (dev, or the one named): nothing of it stays on the machine.
source "$(dirname "$0")/lib.sh"
name=${1:-dev}

"$root/hack/relay.sh" stop "$name"
make_devcluster
devcluster down --name "$name"
rm -f "$(env_file "$name")" "$(env_file "$name").values.yaml"
