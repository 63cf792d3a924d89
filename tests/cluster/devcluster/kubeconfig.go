package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
)

// writeKubeconfig writes a client's configuration with the certificates in it,
// so that the file works wherever it is copied to.
func (c *cluster) writeKubeconfig(file, client string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	data := map[string]string{}
	for _, name := range []string{"ca.crt", client + ".crt", client + ".key"} {
		text, err := os.ReadFile(c.pki(name))
		if err != nil {
			return err
		}
		data[name] = base64.StdEncoding.EncodeToString(text)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[4]s
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
contexts:
- name: %[1]s
  context: {cluster: %[1]s, user: %[4]s}
current-context: %[1]s
`, c.Name, c.apiURL(), data["ca.crt"], client, data[client+".crt"], data[client+".key"])
	return os.WriteFile(file, []byte(text), 0o600)
}
