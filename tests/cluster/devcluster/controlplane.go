package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The control plane is plain processes of the host on the bridge's address.

// controlPlane is the order in which its components start.
var controlPlane = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

const apiDeadline = 90 * time.Second

// Only writes are logged: the audit log is for counting who writes what.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

func (c *cluster) writePKI() error {
	ca, err := newAuthority(c.path("pki"), "devcluster-"+c.Name)
	if err != nil {
		return err
	}
	identities := map[string]identity{
		"apiserver": {user: "kube-apiserver",
			names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			ips:   []string{"127.0.0.1", c.gateway(), c.serviceIP(1)}},
		"kubelet-client":          {user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		"front-proxy-client":      {user: "front-proxy-client"},
		"admin":                   {user: "admin", groups: []string{"system:masters"}},
		"kube-controller-manager": {user: "system:kube-controller-manager"},
		"kube-scheduler":          {user: "system:kube-scheduler"},
		"kube-proxy":              {user: "system:kube-proxy"},
		// Add-ons may do anything, but under their own name in the audit log.
		"netpold":                {user: "netpold", groups: []string{"system:masters"}},
		"local-path-provisioner": {user: "local-path-provisioner", groups: []string{"system:masters"}},
	}
	for name, who := range identities {
		if err := ca.issue(name, who); err != nil {
			return err
		}
	}
	if err := ca.issueSigningKey("sa"); err != nil {
		return err
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kube-proxy", "netpold", "local-path-provisioner"} {
		if err := c.writeKubeconfig(c.path("kubeconfigs", name), name); err != nil {
			return err
		}
	}
	if err := c.writeKubeconfig(c.kubeconfig(), "admin"); err != nil {
		return err
	}
	return os.WriteFile(c.path("audit-policy.yaml"), []byte(auditPolicy), 0o644)
}

// controlPlaneArgv is how each component is called.
func (c *cluster) controlPlaneArgv(t *tools) map[string][]string {
	etcdClient := "http://" + c.loopback() + ":2379"
	etcdPeer := "http://" + c.loopback() + ":2380"
	argv := map[string][]string{
		"etcd": {
			"--data-dir=" + c.path("etcd"),
			"--listen-client-urls=" + etcdClient, "--advertise-client-urls=" + etcdClient,
			"--listen-peer-urls=" + etcdPeer, "--initial-advertise-peer-urls=" + etcdPeer,
			"--initial-cluster=default=" + etcdPeer,
			"--unsafe-no-fsync", // a test's data may die with the machine
			"--log-level=warn",
		},
		"kube-apiserver": {
			"--etcd-servers=" + etcdClient,
			// Not loopback, and announced, so that pods reach it as the
			// Service "kubernetes".
			"--bind-address=" + c.gateway(), "--advertise-address=" + c.gateway(), "--secure-port=6443",
			"--tls-cert-file=" + c.pki("apiserver.crt"), "--tls-private-key-file=" + c.pki("apiserver.key"),
			"--client-ca-file=" + c.pki("ca.crt"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + c.pki("sa.pub"), "--service-account-signing-key-file=" + c.pki("sa.key"),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
			"--service-cluster-ip-range=" + c.serviceCIDR(),
			"--kubelet-client-certificate=" + c.pki("kubelet-client.crt"), "--kubelet-client-key=" + c.pki("kubelet-client.key"),
			"--kubelet-certificate-authority=" + c.pki("ca.crt"),
			"--kubelet-preferred-address-types=InternalIP",
			"--requestheader-client-ca-file=" + c.pki("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + c.pki("front-proxy-client.crt"), "--proxy-client-key-file=" + c.pki("front-proxy-client.key"),
			"--enable-aggregator-routing", // the host has no Service addresses of its own
			"--audit-policy-file=" + c.path("audit-policy.yaml"), "--audit-log-path=" + c.path("audit.log"),
		},
		"kube-controller-manager": {
			"--kubeconfig=" + c.path("kubeconfigs", "kube-controller-manager"),
			"--bind-address=" + c.loopback(), "--leader-elect=false",
			"--use-service-account-credentials",
			"--service-account-private-key-file=" + c.pki("sa.key"), "--root-ca-file=" + c.pki("ca.crt"),
			"--cluster-signing-cert-file=" + c.pki("ca.crt"), "--cluster-signing-key-file=" + c.pki("ca.key"),
			// With the default of 20 the first ServiceAccount comes 5 s late.
			"--kube-api-qps=500", "--kube-api-burst=1000",
		},
		"kube-scheduler": {
			"--kubeconfig=" + c.path("kubeconfigs", "kube-scheduler"),
			"--bind-address=" + c.loopback(), "--leader-elect=false",
			"--kube-api-qps=500", "--kube-api-burst=1000",
		},
	}
	if c.FastNodeLoss {
		argv["kube-apiserver"] = append(argv["kube-apiserver"],
			"--default-not-ready-toleration-seconds=3", "--default-unreachable-toleration-seconds=3")
		argv["kube-controller-manager"] = append(argv["kube-controller-manager"],
			"--node-monitor-grace-period=8s", "--node-monitor-period=1s")
	}
	for component, flags := range argv {
		argv[component] = append([]string{t.path(component)}, flags...)
	}
	return argv
}

func (c *cluster) startControlPlane(t *tools, s *steps) error {
	argv := c.controlPlaneArgv(t)
	for _, component := range controlPlane {
		if err := c.startComponent(component, argv[component]); err != nil {
			return err
		}
	}
	a, err := c.newAPI()
	if err != nil {
		return err
	}
	if err := c.waitForAPI(a); err != nil {
		return err
	}
	s.done("API server ready")
	return nil
}

// waitForControllers waits for what pods need first, and by that for the
// controller manager.
func (c *cluster) waitForControllers(s *steps) error {
	a, err := c.newAPI()
	if err != nil {
		return err
	}
	err = waitFor("the default ServiceAccount", apiDeadline, func() error {
		if err := c.mustRun("kube-controller-manager"); err != nil {
			return err
		}
		return a.get("/api/v1/namespaces/default/serviceaccounts/default", nil)
	})
	if err != nil {
		return err
	}
	s.done("controllers ready")
	return nil
}

func (c *cluster) waitForAPI(a *api) error {
	return waitFor("the API server", apiDeadline, func() error {
		for _, component := range []string{"etcd", "kube-apiserver"} {
			if err := c.mustRun(component); err != nil {
				return err
			}
		}
		return a.get("/readyz", nil)
	})
}

// mustRun ends a wait as soon as what it waits for can't come any more.
func (c *cluster) mustRun(component string) error {
	if err := c.running(component); err != nil {
		return &fatal{fmt.Errorf("%s: %w; the end of %s:\n%s", component, err, c.log(component), tail(c.log(component), 8))}
	}
	return nil
}

// startComponent starts a component on the host and keeps how it was called,
// so that it can be started again the same way.
func (c *cluster) startComponent(component string, argv []string) error {
	if err := c.saveArgv(component, argv); err != nil {
		return err
	}
	_, err := startProcess(argv, c.log(component), c.recordFile(component))
	return err
}

func (c *cluster) saveArgv(component string, argv []string) error {
	file := c.argvFile(component)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return writeJSON(file, argv)
}

// controlPlaneHealth: nil when all of it runs and answers.
func (c *cluster) controlPlaneHealth() error {
	var errs []error
	for _, component := range controlPlane {
		if err := c.running(component); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", component, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	a, err := c.newAPI()
	if err != nil {
		return err
	}
	return a.get("/readyz", nil)
}
