package main

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
)

// forward accepts connections on a listening socket that it has inherited, and joins each to an address. The socket
// is of the host's network, this process of a machine's: so programs on the host reach the API server, and the
// host gets neither an interface nor a route for that.
func forward() error {
	if len(os.Args) != 3 {
		return errors.New("usage: forward DESCRIPTOR ADDRESS")
	}
	descriptor, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(uintptr(descriptor), "listener"))
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go join(connection.(*net.TCPConn), os.Args[2])
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
