// Command netpold enforces NetworkPolicy objects on one node.
//
// It runs kube-router's network policy controller (package netpol) and nothing
// else of kube-router: no BGP, no service proxy. It needs the node's network
// namespace, iptables and ipset, and the Node object with an InternalIP.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/pkg/options"
	"github.com/spf13/pflag"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	// The kubelet registers its Node a second or two after netpold starts.
	nodeDeadline = 2 * time.Minute
	nodeRetry    = 200 * time.Millisecond
	// After SIGTERM the controller finishes the sync it is in; not for ever.
	stopGrace = 3 * time.Second
)

func main() {
	config := options.NewKubeRouterConfig()
	config.AddFlags(pflag.CommandLine)
	pflag.Parse()
	stopping, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if err := run(stopping, config); err != nil {
		klog.Fatalf("netpold: %v", err)
	}
}

func run(ctx context.Context, config *options.KubeRouterConfig) error {
	// netpol finds its Node by $NODE_NAME before it looks at the host's name.
	if os.Getenv("NODE_NAME") == "" {
		if err := os.Setenv("NODE_NAME", config.HostnameOverride); err != nil {
			return err
		}
	}
	rest, err := clientcmd.BuildConfigFromFlags("", config.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %q: %w", config.Kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("make a client from %q: %w", config.Kubeconfig, err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()

	controller, err := newController(ctx, func() (*netpol.NetworkPolicyController, error) {
		return netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &sync.Mutex{})
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced, namespaces.HasSynced, policies.HasSynced) {
		return errors.New("stopped before pods, namespaces and policies were listed")
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods:       controller.PodEventHandler,
		namespaces: controller.NamespaceEventHandler,
		policies:   controller.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch for changes: %w", err)
		}
	}

	// Run blocks on its heartbeats unless someone takes them.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(beats, ctx.Done(), &running)

	<-ctx.Done()
	stopped := make(chan struct{})
	go func() {
		running.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(stopGrace):
	}
	return nil
}

// newController retries until the Node object exists and has an address.
func newController(ctx context.Context, try func() (*netpol.NetworkPolicyController, error)) (*netpol.NetworkPolicyController, error) {
	deadline := time.Now().Add(nodeDeadline)
	for {
		controller, err := try()
		if err == nil {
			return controller, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("wait for this node's Node object: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(nodeRetry):
		}
	}
}
