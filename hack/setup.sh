#!/usr/bin/env bash
# Makes sure of what building needs: Debian packages are installed when missing, Rust and Go must be there.
source "$(dirname "$0")/lib.sh"

# program:package
wanted=(cc:gcc ar:binutils make:make git:git curl:curl jq:jq npm:npm python3:python3 shellcheck:shellcheck socat:socat)

missing=()
for pair in "${wanted[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev)
# Debian keeps the server's programs out of PATH. Tests start servers of their own; the package's is never used.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
# Debian parts these from Python itself. The runner's tests install packages with them.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)

if ((${#missing[@]})); then
  command -v apt-get >/dev/null || die "not installed: ${missing[*]} (names of Debian's packages); install them and try again"
  [[ $(id -u) == 0 ]] || die "not installed: ${missing[*]}; install them, or run this as root"
  say "    installing ${missing[*]}"
  quiet apt.log apt-get -o DPkg::Lock::Timeout=600 update
  DEBIAN_FRONTEND=noninteractive quiet apt.log apt-get -o DPkg::Lock::Timeout=600 install --yes --no-install-recommends "${missing[@]}"
fi

command -v cargo >/dev/null || die "cargo is not in PATH: install Rust with rustup (rust-toolchain.toml names the version)"
command -v go >/dev/null || die "go is not in PATH: install Go 1.25 or newer (it builds the local Kubernetes)"

# With rustup, the first cargo call in this folder installs the pinned toolchain.
(cd "$root" && quiet toolchain.log cargo --version)
