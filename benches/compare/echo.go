// Echo on Go's net package: one goroutine per connection. Each seems to block; the runtime waits for all of them in one
// epoll. Run with an address to listen at.
package main

import (
	"fmt"
	"net"
	"os"
)

func echo(peer net.Conn) {
	defer peer.Close()
	buffer := make([]byte, 16*1024)
	for {
		n, err := peer.Read(buffer)
		if n > 0 {
			if _, err := peer.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening echo tcp", listener.Addr())
	for {
		peer, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		go echo(peer)
	}
}
