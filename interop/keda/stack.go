package main

// A broker and a scaler that belong together, as processes.

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

type stack struct {
	broker, scaler *process
	// connectionString is the broker's for TLS.
	connectionString string
	// All host:port.
	brokerAddress, scalerAddress, scalerMetrics string
}

// startBroker starts a broker that serves TLS with the certificate.
func startBroker(ctx context.Context, folder, name string, programs programs, files certificate) (*stack, error) {
	var ready readyLine
	broker, err := startProcess(ctx, folder, name+"-broker", nil, &ready, programs.broker,
		"--listen", "127.0.0.1:0", "--tls-certificate", files.chain, "--tls-key", files.key)
	if err != nil {
		return nil, err
	}
	started := &stack{broker: broker, connectionString: ready.TLSConnectionString}
	if ready.TLSConnectionString == "" || len(ready.Listen) != 1 {
		return nil, errors.Join(fmt.Errorf("the broker's ready line lacks its TLS connection string: %+v", ready), started.stop())
	}
	started.brokerAddress = ready.Listen[0]
	return started, nil
}

// startScaler starts a scaler that may send credentials to the broker, and to nobody else but `more`. An empty config is none.
func (s *stack) startScaler(ctx context.Context, folder, name string, programs programs, config string, more ...string) error {
	endpoint, err := endpointOf(s.connectionString)
	if err != nil {
		return err
	}
	var ready readyLine
	allowed := strings.Join(append([]string{endpoint}, more...), ",")
	arguments := []string{"serve", "--listen", "127.0.0.1:0", "--allow-endpoint", allowed}
	if config != "" {
		file := filepath.Join(folder, name+"-scaler.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return err
		}
		arguments = append(arguments, "--config", file)
	}
	scaler, err := startProcess(ctx, folder, name+"-scaler", nil, &ready, programs.scaler, arguments...)
	if err != nil {
		return err
	}
	s.scaler = scaler
	if len(ready.Listen) != 1 || ready.Admin == "" {
		return fmt.Errorf("the scaler's ready line does not say where it listens: %+v", ready)
	}
	s.scalerAddress, s.scalerMetrics = ready.Listen[0], ready.Admin
	return nil
}

func endpointOf(connectionString string) (string, error) {
	endpoint := strings.TrimSuffix(strings.TrimPrefix(part(connectionString, "Endpoint"), "sb://"), "/")
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return "", fmt.Errorf("the endpoint %q: %w", endpoint, err)
	}
	return endpoint, nil
}

// stop ends both; each must end well.
func (s *stack) stop() error {
	var problems []error
	for _, process := range []*process{s.scaler, s.broker} {
		if process != nil {
			problems = append(problems, process.stop())
		}
	}
	return errors.Join(problems...)
}
