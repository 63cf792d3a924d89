package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"text/template"
	"time"
)

// Add-ons make a set of nodes a usable cluster: names (CoreDNS, in a pod, so
// that policies that allow DNS find it where they expect it) and volumes
// (local-path-provisioner, on the host, where it costs no pod).

//go:embed addons.yaml
var addonsManifest string

const (
	provisioner       = "local-path-provisioner"
	storageNamespace  = "local-path-storage"
	addonsDeadline    = 60 * time.Second
	provisionDeadline = 60 // seconds until a volume's helper pod must be done
)

func (c *cluster) startAddons(t *tools) error {
	manifest, err := c.renderAddons()
	if err != nil {
		return err
	}
	_, err = outputWithInput(strings.NewReader(manifest), t.path("kubectl"), "--kubeconfig", c.kubeconfig(), "apply", "--server-side", "--filename=-")
	if err != nil {
		return err
	}
	if c.running(provisioner) == nil {
		return nil
	}
	config, err := c.writeProvisionerFiles()
	if err != nil {
		return err
	}
	return c.startComponent(provisioner, []string{t.path(provisioner), "start",
		"--kubeconfig=" + c.path("kubeconfigs", provisioner),
		"--config=" + config, "--helper-pod-file=" + c.path("helper-pod.yaml"),
		"--namespace=" + storageNamespace, "--service-account-name=default",
		"--helper-image=" + toolboxImage,
	})
}

func (c *cluster) renderAddons() (string, error) {
	parsed, err := template.New("addons").Parse(addonsManifest)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = parsed.Execute(&text, map[string]string{"DNSIP": c.dnsIP(), "CoreDNS": corednsImage, "Namespace": storageNamespace})
	return text.String(), err
}

// writeProvisionerFiles gives every node a folder of its own for volumes: nodes
// share the host's file system, and volumes of two nodes must not meet.
func (c *cluster) writeProvisionerFiles() (config string, err error) {
	type nodePath struct {
		Node  string   `json:"node"`
		Paths []string `json:"paths"`
	}
	var paths []nodePath
	for n := 1; n <= maxNodes; n++ {
		paths = append(paths, nodePath{nodeName(n), []string{c.nodePath(n, "volumes")}})
	}
	text, err := json.MarshalIndent(map[string]any{
		"nodePathMap":       paths,
		"cmdTimeoutSeconds": provisionDeadline,
		"setupCommand":      "/toolbox",
		"teardownCommand":   "/toolbox",
	}, "", "  ")
	if err != nil {
		return "", err
	}
	helper := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: volume}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
  - {name: helper, image: %q, imagePullPolicy: Never}
`, toolboxImage)
	if err := os.WriteFile(c.path("helper-pod.yaml"), []byte(helper), 0o644); err != nil {
		return "", err
	}
	config = c.path("volumes.json")
	return config, os.WriteFile(config, text, 0o644)
}

// waitForDNS asks the way a pod would, through the Service's address: then
// CoreDNS, kube-proxy and the host's routes have all been seen to work.
func (c *cluster) waitForDNS() error {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "udp", net.JoinHostPort(c.dnsIP(), "53"))
	}}
	return waitFor("cluster DNS", addonsDeadline, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// The last dot keeps the host's search list out of it.
		_, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
		return err
	})
}
