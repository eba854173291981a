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

// inventory is a file that gives names to agents; farsock run --inventory takes the same:
//
//	hosts:
//	  lab-a: lab-a.example:7625
//	  lab-b: {agent: "unix:/run/lab-b.sock"}
//	  lab-c: {agent: "127.0.0.1:7626", token_file: lab-c.token}
//	  lab-d: {agent: "lab-d:7625", tls_cert: pki/alice.pem}
//	  lab-e.example:
type inventory struct {
	Hosts map[string]*inventoryHost `yaml:"hosts"`
}

type inventoryHost struct {
	// Agent is the endpoint. A host whose agent is not named is where its own name says.
	Agent string `yaml:"agent"`
	// TokenFile starts from the directory of the inventory when it is relative; so do the other files.
	TokenFile string `yaml:"token_file"`
	// TokenEnv is the variable that has the token.
	TokenEnv string `yaml:"token_env"`
	TLSCert  string `yaml:"tls_cert"`
	TLSKey   string `yaml:"tls_key"`
	TLSCA    string `yaml:"tls_ca"`
}

// inventoryFields are what a host may have; the last four are for farsock run.
var inventoryFields = []string{
	"agent", "token_file", "token_env", "tls_cert", "tls_key", "tls_ca", "program", "labels", "groups", "addresses",
}

// UnmarshalYAML reads the short form, the endpoint alone, too.
func (h *inventoryHost) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&h.Agent)
	}
	for at := 0; at+1 < len(node.Content); at += 2 {
		if key := node.Content[at]; !slices.Contains(inventoryFields, key.Value) {
			return fmt.Errorf("line %d: there is no %q: a host has %s", key.Line, key.Value, strings.Join(inventoryFields, ", "))
		}
	}
	// Only what is known here is decoded: the rest was looked at above.
	type plain inventoryHost
	return node.Decode((*plain)(h))
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
