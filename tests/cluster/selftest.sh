#!/bin/bash
# Tries out devcluster itself: boots a cluster without nodes and one with a node
# beside each other, uses what sessions' pods will use, breaks things, takes both
# down, and compares the machine before and after.
#
# usage: tests/cluster/selftest.sh      (as root; about a minute with tools built)
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${PADDOCK_CACHE:-$HOME/.cache/paddock}
work=$(mktemp -d)
cp_name=selftest-cp
one_name=selftest-one
passed=0
failed=0

devcluster() { "$work/devcluster" "$@"; }
k() { kubectl --kubeconfig "$cache/clusters/$one_name/kubeconfig" "$@"; }

# check TEXT COMMAND...: one test; its output is shown only if it fails.
check() {
  local text=$1 started=$SECONDS
  shift
  if "$@" >"$work/out" 2>&1; then
    passed=$((passed + 1))
    printf 'ok      %s (%ss)\n' "$text" $((SECONDS - started))
  else
    failed=$((failed + 1))
    printf 'FAILED  %s (%ss)\n' "$text" $((SECONDS - started))
    sed 's/^/        /' "$work/out" | tail -n 20
  fi
}

# eventually SECONDS COMMAND...: asks until it succeeds.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

not() { ! "$@"; }
same() { [[ $1 == "$2" ]] || { echo "got \"$1\", expected \"$2\""; false; }; }

finish() {
  for name in $cp_name $one_name; do
    devcluster down --name $name >/dev/null 2>&1
  done
  rm -rf "$work"
}
trap finish EXIT

# machine: what of the machine must be as before. Other clusters and image
# builds may come and go meanwhile: lines that are theirs are left out.
machine() {
  {
    ip -o link show | awk -F'[:@ ]+' '{print "link", $2}'
    ip route show table all
    ip rule show
    iptables-save 2>/dev/null | grep -v '^#' | sed 's/\[[0-9:]*\]//'
    cut -d' ' -f1-3 /proc/mounts
    find /sys/fs/cgroup -maxdepth 2 -name 'devcluster-*'
    sysctl -n net.ipv4.ip_forward
  } | grep -vE "/buildah/${others:+|$others}" | sort
}

# lines that belong to clusters other than this test's
other_clusters() {
  local file index pattern=
  for file in "$cache"/clusters/*/cluster.json; do
    case $file in */$cp_name/* | */$one_name/* | *'*'*) continue ;; esac
    index=$(sed -n 's/.*"index": \([0-9]*\).*/\1/p' "$file" 2>/dev/null)
    [[ -n $index ]] || continue
    pattern+="|pdk${index}\b|pdk${index}n|\b10\.$((200 + index))\.|\b10\.$((140 + index))\.|\b10\.$((90 + index))\.|devcluster-$(basename "$(dirname "$file")")-node"
  done
  echo "${pattern#|}"
}

# processes of the test's clusters: named in a record, or in a node's namespace
cluster_processes() {
  local file pid
  for file in "$cache"/clusters/{$cp_name,$one_name}/processes/*.json; do
    [[ -e $file ]] || continue
    pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$file")
    echo "$pid"
  done
  local space
  space=$(readlink "/proc/$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$cache/clusters/$one_name/processes/node1.json")/ns/pid")
  for pid in /proc/[0-9]*; do
    [[ $(readlink "$pid/ns/pid") == "$space" ]] && echo "${pid#/proc/}"
  done
}

started_at() { awk '{sub(/.*\) /, ""); print $20}' "/proc/$1/stat" 2>/dev/null; }

pods='
apiVersion: v1
kind: Namespace
metadata: {name: selftest, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: selftest}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: selftest}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
'
pod() { # NAME ENDING: a pod that "restricted" admits
  cat <<POD
---
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: selftest, labels: {app: $1}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: localhost/devcluster/toolbox:1
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
    $2
POD
}
deny='
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: selftest}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: []}
'

in_client() { k -n selftest exec client -- /toolbox "$@"; }
served_to_client() { in_client get http://server.selftest/; }
denied_to_client() { not served_to_client; }

reads_back() {
  k -n selftest exec writer -- /toolbox write /data/file "kept" && same "$(k -n selftest exec writer -- /toolbox read /data/file)" kept
}
forwards() {
  k -n selftest port-forward pod/server :8080 >"$work/forward" &
  local forward=$! port
  eventually 10 grep -q 'Forwarding from 127' "$work/forward"
  port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward")
  same "$(curl -s -m 5 "http://127.0.0.1:$port/")" server
  local result=$?
  kill $forward
  wait $forward
  return $result
}
rejected_by_pod_security() {
  not k -n selftest run root --image=localhost/devcluster/toolbox:1 2>&1 | grep -q 'violates PodSecurity "restricted'
}
both_up() {
  devcluster up --name $cp_name --control-plane-only &
  local first=$!
  devcluster up --name $one_name --nodes 1
  local second=$?
  wait $first && return $second
}
both_down() {
  devcluster down --name $cp_name && devcluster down --name $one_name
}
all_ended() {
  local line pid start left=0
  while read -r pid start; do
    if [[ -n $start && $(started_at "$pid") == "$start" ]]; then
      echo "still runs: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
      left=1
    fi
  done <"$work/processes"
  return $left
}
unchanged() { diff "$work/before" <(machine) && [[ ! -e $cache/clusters/$cp_name && ! -e $cache/clusters/$one_name ]]; }
repaired() {
  devcluster component kill --name $cp_name --component etcd &&
    devcluster up --name $cp_name --control-plane-only &&
    kubectl --kubeconfig "$cache/clusters/$cp_name/kubeconfig" get namespace default
}
api_restarts() {
  devcluster component kill --name $one_name --component kube-apiserver &&
    not k get --raw /readyz &&
    devcluster component start --name $one_name --component kube-apiserver &&
    k get --raw /readyz && k -n selftest exec server -- /toolbox lookup localhost
}
node_restarts() {
  devcluster component kill --name $one_name --component node &&
    not curl -s -m 1 "http://$server_ip:8080/" &&
    devcluster component start --name $one_name --component node &&
    eventually 60 served_again
}
served_again() {
  local ip
  ip=$(k -n selftest get pod server -o 'jsonpath={.status.podIP}')
  [[ -n $ip && $(curl -s -m 1 "http://$ip:8080/") == server ]]
}

# cut_short SECONDS: an "up" that is killed at that moment leaves only what its
# record knows.
cut_short() {
  timeout --signal=KILL "$1" "$work/devcluster" up --name $one_name
  devcluster down --name $one_name && eventually 5 unchanged
}

(cd "$here/devcluster" && go vet ./... && go test ./... && go build -o "$work/devcluster" .) || exit 1
PATH=$(devcluster build):$PATH || exit 1
check "nothing left of an earlier run" both_down
others=$(other_clusters)
machine >"$work/before"

check "two clusters boot beside each other" both_up
check "up is instant when the cluster runs" timeout 5 "$work/devcluster" up --name $one_name
check "the node is Ready" k wait --for=condition=Ready node/node1 --timeout=10s
k apply -f - >/dev/null <<<"$pods$(pod server 'args: [serve, ":8080"]')
$(pod client 'args: [serve, ":8080"]')
$(pod writer 'volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]')"
check "pods of a local image, restricted, become Ready" k -n selftest wait --for=condition=Ready pod/server pod/client --timeout=30s
check "a pod that breaks the restrictions is rejected" rejected_by_pod_security
check "logs" eventually 5 eval 'k -n selftest logs server | grep -q serving'
check "port-forward" forwards
check "DNS: the API server's Service" in_client lookup kubernetes.default
check "DNS: a name outside doesn't exist" not in_client lookup outside.example
check "a Service is reached from a pod" eventually 10 served_to_client
server_ip=$(k -n selftest get pod server -o 'jsonpath={.status.podIP}')
service_ip=$(k -n selftest get service server -o 'jsonpath={.spec.clusterIP}')
check "a pod is reached from the host" same "$(curl -s -m 3 "http://$server_ip:8080/")" server
check "a Service is reached from the host" same "$(curl -s -m 3 "http://$service_ip/")" server
k apply -f - >/dev/null <<<"$deny"
check "a NetworkPolicy denies" eventually 10 denied_to_client
k delete -f - >/dev/null <<<"$deny"
check "without the policy it is served again" eventually 10 served_to_client
check "a volume is provisioned" k -n selftest wait --for=condition=Ready pod/writer --timeout=30s
check "a volume keeps what is written" reads_back
check "writes are in the audit log" grep -q '"verb":"create".*"resource":"persistentvolumeclaims"' "$cache/clusters/$one_name/audit.log"
check "the API server is killed and started again" api_restarts
check "a node is killed and started again" node_restarts
check "up replaces a cluster that lost its etcd" repaired

for pid in $(cluster_processes | sort -un); do
  echo "$pid $(started_at "$pid")"
done >"$work/processes"
check "both go down" both_down
check "all $(wc -l <"$work/processes") processes ended" eventually 5 all_ended
others=$(other_clusters)
check "links, routes, rules, iptables, mounts, cgroups and folders are as before" unchanged
check "down again finds nothing to do" both_down
for moment in 0.15 0.4 1.0 2.0 4.0; do
  check "up killed after $moment s, then down: nothing left" cut_short $moment
done

echo "$passed passed, $failed failed"
((failed == 0))
