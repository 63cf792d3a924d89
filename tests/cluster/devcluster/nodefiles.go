package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// Names of the images that every cluster needs, see ../addons/images.
const (
	pauseImage   = "localhost/devcluster/pause:1"
	corednsImage = "localhost/devcluster/coredns:1"
	toolboxImage = "localhost/devcluster/toolbox:1"
)

func (c *cluster) containerdSocket(n int) string { return c.nodePath(n, "containerd.sock") }

// writeNodeFiles writes the configuration of a node's programs.
func (c *cluster) writeNodeFiles(n int) error {
	files := map[string]string{
		"containerd.toml":          c.containerdConfig(n),
		"cni.d/10-bridge.conflist": c.cniConfig(n),
		"kubelet.yaml":             c.kubeletConfig(n),
		"resolv.conf":              "nameserver " + c.dnsIP() + "\n",
	}
	for name, text := range files {
		file := c.nodePath(n, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// restrict_oom_score_adj: some machines don't let even root lower it.
func (c *cluster) containerdConfig(n int) string {
	return fmt.Sprintf(`version = 2
root = %[1]q
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = %[2]q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[3]q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %[4]q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`, c.nodePath(n, "containerd"), c.containerdSocket(n), pauseImage, c.nodePath(n, "cni.d"))
}

// ipMasq stays off: a pod that shows up under its node's address is not
// recognised by NetworkPolicies.
func (c *cluster) cniConfig(n int) string {
	return fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "%s"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`, c.nodePodCIDR(n))
}

// The eviction and image collection limits are low on purpose: the disk is the
// whole machine's, and a test must not lose an image to its fullness.
func (c *cluster) kubeletConfig(n int) string {
	statusEvery, leaseSeconds := "10s", 40
	if c.FastNodeLoss {
		statusEvery, leaseSeconds = "2s", 4
	}
	taints := "[]"
	if c.isSpare(n) {
		taints = fmt.Sprintf("[{key: %s, effect: NoSchedule}]", spareTaint)
	}
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]q}}
authorization: {mode: Webhook}
tlsCertFile: %[2]q
tlsPrivateKeyFile: %[3]q
cgroupDriver: cgroupfs
cgroupRoot: %[4]q
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: "unix://%[5]s"
clusterDNS: [%[6]s]
clusterDomain: cluster.local
resolvConf: %[7]q
serializeImagePulls: false
imageGCHighThresholdPercent: 100
maxPods: 250
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%}
nodeStatusUpdateFrequency: %[8]s
nodeLeaseDurationSeconds: %[9]d
registerWithTaints: %[10]s
`, c.pki("ca.crt"), c.pki(nodeName(n)+".crt"), c.pki(nodeName(n)+".key"), c.nodeCgroup(n),
		c.containerdSocket(n), c.dnsIP(), c.nodePath(n, "resolv.conf"), statusEvery, leaseSeconds, taints)
}
