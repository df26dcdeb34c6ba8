package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// serveEtcd runs etcd with the configuration file that is its only argument, until it is told to end.
func serveEtcd() error {
	if len(os.Args) != 2 {
		return errors.New("usage: etcd CONFIGURATION-FILE")
	}
	config, err := embed.ConfigFromFile(os.Args[1])
	if err != nil {
		return err
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-ends:
		return nil
	case err := <-server.Err():
		return err
	}
}
