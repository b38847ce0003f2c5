package main

// A broker and a scaler that belong together, as processes, with a client of the broker's namespace; and what all such stacks
// of a run share.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// readyLine is what our programs print when they serve.
type readyLine struct {
	Listen              []string `json:"listen"`
	TLSConnectionString string   `json:"tlsConnectionString"`
	// Admin is where the scaler serves its metrics.
	Admin string `json:"admin"`
}

// site is what all stacks of a run share: the programs, a folder for their files, and the certificate of their brokers.
type site struct {
	programs programs
	folder   string
	files    certificate
}

func newSite(programs programs) (*site, error) {
	folder, err := os.MkdirTemp("", "interop-keda-")
	if err != nil {
		return nil, err
	}
	files, err := newCertificate(folder)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return &site{programs, folder, files}, nil
}

func (s *site) remove() error { return os.RemoveAll(s.folder) }

type stack struct {
	broker, scaler *process
	entities       *namespace
	// connectionString is the broker's for TLS.
	connectionString string
	// All host:port.
	brokerAddress, scalerAddress, scalerMetrics string
}

// start starts a broker that serves TLS, a scaler that may send credentials to it, and to nobody else but `more`, and a client
// of the namespace. An empty config is none.
func (s *site) start(ctx context.Context, name, config string, more ...string) (*stack, error) {
	started := &stack{}
	err := s.startBroker(ctx, name, started)
	if err == nil {
		err = s.startScaler(ctx, name, started, config, more)
	}
	if err == nil {
		started.entities, err = newNamespace(started.connectionString)
	}
	if err != nil {
		return nil, errors.Join(err, started.stop(ctx))
	}
	return started, nil
}

func (s *site) startBroker(ctx context.Context, name string, started *stack) error {
	var ready readyLine
	broker, err := startProcess(ctx, s.folder, name+"-broker", nil, &ready, s.programs.broker,
		"--listen", "127.0.0.1:0", "--tls-certificate", s.files.chain, "--tls-key", s.files.key)
	if err != nil {
		return err
	}
	started.broker = broker
	if ready.TLSConnectionString == "" || len(ready.Listen) != 1 {
		return fmt.Errorf("the broker's ready line lacks its TLS connection string: %+v", ready)
	}
	started.connectionString, started.brokerAddress = ready.TLSConnectionString, ready.Listen[0]
	return nil
}

func (s *site) startScaler(ctx context.Context, name string, started *stack, config string, more []string) error {
	endpoint, err := endpointOf(started.connectionString)
	if err != nil {
		return err
	}
	var ready readyLine
	allowed := strings.Join(append([]string{endpoint}, more...), ",")
	arguments := []string{"serve", "--listen", "127.0.0.1:0", "--allow-endpoint", allowed}
	if config != "" {
		file := filepath.Join(s.folder, name+"-scaler.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return err
		}
		arguments = append(arguments, "--config", file)
	}
	scaler, err := startProcess(ctx, s.folder, name+"-scaler", nil, &ready, s.programs.scaler, arguments...)
	if err != nil {
		return err
	}
	started.scaler = scaler
	if len(ready.Listen) != 1 || ready.Admin == "" {
		return fmt.Errorf("the scaler's ready line does not say where it listens: %+v", ready)
	}
	started.scalerAddress, started.scalerMetrics = ready.Listen[0], ready.Admin
	return nil
}

func endpointOf(connectionString string) (string, error) {
	endpoint := strings.TrimSuffix(strings.TrimPrefix(part(connectionString, "Endpoint"), "sb://"), "/")
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return "", fmt.Errorf("the endpoint %q: %w", endpoint, err)
	}
	return endpoint, nil
}

// stop ends all that was started; each must end well.
func (s *stack) stop(ctx context.Context) error {
	var problems []error
	if s.entities != nil {
		problems = append(problems, s.entities.close(ctx))
	}
	for _, process := range []*process{s.scaler, s.broker} {
		if process != nil {
			problems = append(problems, process.stop())
		}
	}
	return errors.Join(problems...)
}
