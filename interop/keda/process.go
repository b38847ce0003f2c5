package main

// Our programs as child processes. A started program says where it listens in its ready file; nothing here knows a port.
// Every wait has a deadline, and a program must end on SIGTERM with exit code 0.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startPatience = 30 * time.Second
	stopPatience  = 15 * time.Second
	// readyPause is how long to wait between two looks for the ready file.
	readyPause = 10 * time.Millisecond
)

type process struct {
	name      string
	command   *exec.Cmd
	logFile   string
	readyFile string
	// ended is closed when the process is gone; exit is set before.
	ended chan struct{}
	exit  error
}

// startProcess runs a program until it is ready and puts its ready line into `ready`. It writes its files into `folder`.
func startProcess(ctx context.Context, folder, name string, environment []string, ready any, program string, arguments ...string) (*process, error) {
	readyFile := filepath.Join(folder, name+".ready.json")
	started := &process{name: name, logFile: filepath.Join(folder, name+".log"), readyFile: readyFile, ended: make(chan struct{})}
	log, err := os.Create(started.logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	started.command = exec.Command(program, append(arguments, "--ready-file", readyFile)...)
	started.command.Env = append(os.Environ(), environment...)
	started.command.Stdout, started.command.Stderr = log, log
	if err := started.command.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		started.exit = started.command.Wait()
		started.keep()
		close(started.ended)
	}()
	if err := started.awaitReady(ctx, readyFile, ready); err != nil {
		started.kill()
		return nil, err
	}
	return started, nil
}

func (p *process) awaitReady(ctx context.Context, file string, ready any) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		line, err := os.ReadFile(file)
		switch {
		case err == nil:
			if err := json.Unmarshal(line, ready); err != nil {
				return fmt.Errorf("the ready line of %s: %w", p.name, err)
			}
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready (%v):\n%s", p.name, p.exit, p.log())
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready within %v: %w:\n%s", p.name, startPatience, ctx.Err(), p.log())
		case <-time.After(readyPause):
		}
	}
}

// stop asks the process to end, as Kubernetes does.
func (p *process) stop() error {
	// An error means that it is gone already; its exit code says more.
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		p.kill()
		return fmt.Errorf("%s still ran %v after SIGTERM:\n%s", p.name, stopPatience, p.log())
	}
	if p.exit != nil {
		return fmt.Errorf("%s ended with %w:\n%s", p.name, p.exit, p.log())
	}
	return nil
}

// keep copies what the process said to where .ci/run looks for secrets, but for its ready line: a broker's announces its own key.
func (p *process) keep() {
	folder := os.Getenv("TESTBENCH_OUTPUT")
	if folder == "" {
		return
	}
	said := p.log()
	if line, err := os.ReadFile(p.readyFile); err == nil {
		said = strings.Replace(said, string(line), "", 1)
	}
	file := filepath.Join(folder, fmt.Sprintf("%s-%d.log", p.name, p.command.Process.Pid))
	if err := os.WriteFile(file, []byte(said), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "what was said could not be kept:", err)
	}
}

func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.ended
}

func (p *process) log() string {
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(log)
}
