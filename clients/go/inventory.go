package farsock

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// inventory is a file that gives names to agents:
//
//	hosts:
//	  lab-a: lab-a.example:7625
//	  lab-b: {agent: "unix:/run/lab-b.sock"}
//	  lab-c: {agent: "127.0.0.1:7626", token_file: lab-c.token}
//	  lab-d: {agent: "lab-d:7625", tls_cert: pki/alice.pem}
type inventory struct {
	Hosts map[string]inventoryHost `yaml:"hosts"`
}

type inventoryHost struct {
	// Agent is the endpoint.
	Agent string `yaml:"agent"`
	// TokenFile starts from the directory of the inventory when it is relative.
	TokenFile string `yaml:"token_file"`
	// TLSCert starts from there, too.
	TLSCert string `yaml:"tls_cert"`
}

// UnmarshalYAML reads the short form, the endpoint alone, too.
func (h *inventoryHost) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&h.Agent)
	}
	for at := 0; at+1 < len(node.Content); at += 2 {
		if key := node.Content[at]; key.Value != "agent" && key.Value != "token_file" && key.Value != "tls_cert" {
			return fmt.Errorf("line %d: there is no %q: a host has `agent`, and `token_file` or `tls_cert`", key.Line, key.Value)
		}
	}
	type plain inventoryHost
	if err := node.Decode((*plain)(h)); err != nil {
		return err
	}
	if h.Agent == "" {
		return fmt.Errorf("line %d: `agent` is needed, HOST:PORT or unix:PATH", node.Line)
	}
	return nil
}

func readInventory(file string) (*inventory, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var read inventory
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	err = decoder.Decode(&read)
	if err == nil && read.Hosts == nil {
		err = errors.New("`hosts:` is needed, with an endpoint for each name")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &read, nil
}

func (i *inventory) names() string {
	return strings.Join(slices.Sorted(maps.Keys(i.Hosts)), ", ")
}
