package farsock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// DefaultPort is where agents are reached when no port is named.
const DefaultPort = 7625

// endpoint is where an agent is reached, and what it is shown there.
type endpoint struct {
	// network and address are as net.Dialer takes them.
	network, address string
	token            func() (string, error)
	// identity is shown by TLS. Nil: TLS is not spoken.
	identity *identity
}

func (e *endpoint) String() string {
	if e.network == "unix" {
		return "unix:" + e.address
	}
	return e.address
}

func (e *endpoint) dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, e.network, e.address)
	if err != nil || e.identity == nil {
		return conn, err
	}
	secure, err := e.identity.handshake(ctx, conn, e.address)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", e, err)
	}
	return secure, nil
}

// find takes a name for that of the inventory's, if there is one, and else for an endpoint.
func (c *Config) find(name string) (*endpoint, error) {
	file := c.Inventory
	if file == "" {
		file = os.Getenv("FARSOCK_INVENTORY")
	}
	if file == "" {
		return c.endpoint(name, c.TokenFile, c.TLSCert)
	}
	hosts, err := readInventory(file)
	if err != nil {
		return nil, err
	}
	if host, known := hosts.Hosts[name]; known {
		endpoint, err := c.listed(name, host, filepath.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("%s: host %s: %w", file, name, err)
		}
		return endpoint, nil
	}
	if _, err := strconv.Atoi(name); err == nil || strings.Contains(name, ":") {
		return c.endpoint(name, c.TokenFile, c.TLSCert)
	}
	return nil, fmt.Errorf("there is no host %q in %s: it has %s", name, file, hosts.names())
}

// listed is the endpoint of a host of the inventory. What the caller has said comes before what the inventory says.
func (c *Config) listed(name string, host *inventoryHost, directory string) (*endpoint, error) {
	if host == nil {
		host = &inventoryHost{}
	}
	with := *c
	files := map[*string]string{
		&with.TokenFile: host.TokenFile, &with.TLSCert: host.TLSCert, &with.TLSKey: host.TLSKey, &with.TLSCA: host.TLSCA,
	}
	for field, path := range files {
		if *field == "" && path != "" {
			if !filepath.IsAbs(path) {
				path = filepath.Join(directory, path)
			}
			*field = path
		}
	}
	if host.TokenEnv != "" && with.Token == "" && with.TokenFile == "" {
		token, there := os.LookupEnv(host.TokenEnv)
		if !there {
			return nil, fmt.Errorf("there is no variable %s in the environment, which `token_env` says has the token", host.TokenEnv)
		}
		with.Token = token
	}
	return with.endpoint(cmp.Or(host.Agent, name), with.TokenFile, with.TLSCert)
}

// endpoint reads lab-a, lab-a:7625, [::1]:7625, 7625, unix:/path.
func (c *Config) endpoint(text, tokenFile, tlsCert string) (*endpoint, error) {
	if path, is := strings.CutPrefix(text, "unix:"); is {
		if path == "" {
			return nil, errors.New("unix: needs a path")
		}
		return &endpoint{network: "unix", address: path, token: func() (string, error) { return "", nil }}, nil
	}
	if strings.HasPrefix(text, "ssh://") {
		return nil, fmt.Errorf("%s: only farsock run goes by ssh: name a port or a Unix socket, or forward one of them by ssh -L", text)
	}
	host, port := text, strconv.Itoa(DefaultPort)
	if _, err := netip.ParseAddr(text); err != nil {
		if _, err := strconv.Atoi(text); err == nil {
			host, port = "", text
		} else if strings.Contains(text, ":") {
			if host, port, err = net.SplitHostPort(text); err != nil {
				return nil, fmt.Errorf("%q is no endpoint: HOST, HOST:PORT, PORT or unix:PATH is needed", text)
			}
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if text == "" || err != nil || number == 0 || strings.ContainsAny(host, "/ ") {
		return nil, fmt.Errorf("%q is no endpoint: HOST, HOST:PORT, PORT or unix:PATH is needed", text)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	made := &endpoint{network: "tcp", address: net.JoinHostPort(host, port)}
	if made.identity = c.identity(tokenFile, tlsCert); made.identity != nil {
		made.token = func() (string, error) { return "", nil }
	} else {
		made.token = func() (string, error) { return c.findToken(tokenFile, port) }
	}
	return made, nil
}

// findToken answers what an agent by TCP is shown. It is read anew for each connection, because an agent makes a new one when it starts.
func (c *Config) findToken(file, port string) (string, error) {
	if c.Token != "" {
		return c.Token, nil
	}
	named := file != ""
	if !named {
		file = os.Getenv("FARSOCK_TOKEN_FILE")
		named = file != ""
	}
	if !named {
		file = filepath.Join(runtimeDir(), port+".token")
	}
	text, err := readPrivate(file)
	if !named && errors.Is(err, fs.ErrNotExist) {
		// An agent on another host, or one that was started with --no-auth.
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// runtimeDir is where agents of this user keep their tokens.
func runtimeDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "farsock")
	}
	user := strconv.Itoa(os.Getuid())
	if info, err := os.Stat("/run/user/" + user); err == nil && info.IsDir() {
		return filepath.Join("/run/user", user, "farsock")
	}
	if user == "0" {
		return "/run/farsock"
	}
	return filepath.Join(os.TempDir(), "farsock-"+user)
}
