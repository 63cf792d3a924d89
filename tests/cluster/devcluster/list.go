package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
)

func runList(args []string) error {
	flags := newFlags("list", "", "Lists the clusters of this cache: name, state, nodes and kubeconfig.")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := noArguments(flags); err != nil {
		return err
	}
	names, err := clusterNames()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	for _, name := range names {
		c, err := loadCluster(name)
		if err != nil {
			return err
		}
		state := "runs"
		if c.controlPlaneHealth() != nil {
			state = "damaged"
		}
		var nodes []string
		for _, n := range c.nodes() {
			if err := c.nodeHealth(n); err != nil {
				nodes = append(nodes, nodeName(n)+" (damaged)")
			} else {
				nodes = append(nodes, nodeName(n))
			}
		}
		if len(nodes) == 0 {
			nodes = []string{"no nodes"}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Name, state, strings.Join(nodes, " "), c.kubeconfig())
	}
	return table.Flush()
}

func runKubeconfig(args []string) error {
	flags := newFlags("kubeconfig", "--name NAME", "Prints the path of the cluster's admin kubeconfig.")
	name := flags.String("name", "dev", "the cluster's name")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := noArguments(flags); err != nil {
		return err
	}
	c, err := loadCluster(*name)
	if err != nil {
		return err
	}
	fmt.Println(c.kubeconfig())
	return nil
}
