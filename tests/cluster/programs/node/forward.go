package main

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
)

// forward accepts connections on the listening socket that is its descriptor 3, and joins each to the address that
// is its only argument. The socket is of the host's network, this process of a machine's: so programs on the
// host reach the API server, and the host's network gets neither an interface nor a route for that.
func forward() error {
	if len(os.Args) != 2 {
		return errors.New("usage: forward ADDRESS 3<LISTENING-SOCKET")
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go join(connection.(*net.TCPConn), os.Args[1])
	}
}

func join(near *net.TCPConn, address string) {
	defer near.Close()
	dialed, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	far := dialed.(*net.TCPConn)
	defer far.Close()
	var both sync.WaitGroup
	both.Go(func() { pour(near, far) })
	both.Go(func() { pour(far, near) })
	both.Wait()
}

// pour copies until the end of one direction, and tells the other side of that end.
func pour(from, to *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}
