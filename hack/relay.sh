#!/usr/bin/env bash
# Pods of a local cluster can't leave the machine. This lets them reach one model API: a relay on the cluster's bridge
# address that passes connections on unchanged, so that TLS stays between the pod and the API.
#
#   relay.sh start CLUSTER URL   prints the URL for pods, and the address and name for their hosts file where it has a name
#   relay.sh stop CLUSTER
source "$(dirname "$0")/lib.sh"

action=${1:-} name=${2:-dev}
pid_file=$PADDOCK_CACHE/relay-$name.pid

stop() {
  [[ -e $pid_file ]] || return 0
  local pid
  pid=$(<"$pid_file")
  # The number may belong to another program by now.
  if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == socat ]]; then kill -- "-$pid"; fi # with its connections
  rm -f "$pid_file"
}

start() {
  local url=$1 scheme rest authority path host port bridge
  scheme=${url%%://*} rest=${url#*://}
  authority=${rest%%/*} path=${rest#"$authority"}
  host=${authority%%:*}
  case $scheme in
    http) port=80 ;;
    https) port=443 ;;
    *) die "MODEL_BASE_URL is '$url': it must start with http:// or https://" ;;
  esac
  [[ $authority == *:* ]] && port=${authority##*:}

  bridge=$(KUBECONFIG=$(kubeconfig_of "$name") kubectl config view --output 'jsonpath={.clusters[0].cluster.server}')
  bridge=${bridge#https://} bridge=${bridge%%:*}

  stop
  # The URL is kept where it has a name, for TLS and for virtual hosts; the pod's hosts file sends the name to the bridge.
  # An address has to be replaced, and then any free port will do.
  local listen=$port named=yes
  if [[ $host =~ ^[0-9.]+$ || $host == localhost ]]; then
    named=
    for listen in {18000..18999}; do
      ss --no-header --listening --tcp --numeric "sport = :$listen" | grep -q . || break
    done
  fi
  setsid socat "TCP-LISTEN:$listen,bind=$bridge,fork,reuseaddr" "TCP:$host:$port" >"$PADDOCK_CACHE/logs/relay-$name.log" 2>&1 </dev/null &
  echo $! >"$pid_file"
  # It listens at once or ends at once.
  for _ in {1..50}; do
    ss --no-header --listening --tcp --numeric "src $bridge:$listen" | grep -q . && break
    kill -0 "$(<"$pid_file")" 2>/dev/null || break
    sleep 0.1
  done
  kill -0 "$(<"$pid_file")" 2>/dev/null || die "the relay to $host:$port did not start: $(cat "$PADDOCK_CACHE/logs/relay-$name.log")"

  if [[ -n $named ]]; then
    echo "$url $bridge $host"
  else
    echo "$scheme://$bridge:$listen$path"
  fi
}

case $action in
  start) start "$3" ;;
  stop) stop ;;
  *) die "usage: relay.sh start CLUSTER URL, or relay.sh stop CLUSTER" ;;
esac
