// The Go servers of the benchmark: peers echo|chat|timestamp|tls FILE. Prints its port.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

func printPort(address net.Addr) {
	_, port, _ := net.SplitHostPort(address.String())
	fmt.Println(port)
}

func echo(c net.Conn) {
	buffer := make([]byte, 65536)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			break
		}
		if _, err := c.Write(buffer[:n]); err != nil {
			break
		}
	}
	c.Close()
}

// The lines for a member are queued in a channel. If the channel is full, a line is dropped.
type member struct{ lines chan []byte }

var (
	lock    sync.Mutex
	members = map[*member]bool{}
	guests  int
)

func chat(c net.Conn) {
	m := &member{make(chan []byte, 256)}
	lock.Lock()
	guests++
	name := fmt.Sprintf("<guest-%d> ", guests)
	members[m] = true
	lock.Unlock()
	go func() {
		for line := range m.lines {
			c.Write(line)
		}
		c.Close()
	}()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		message := []byte(name + lines.Text() + "\n")
		lock.Lock()
		for other := range members {
			if other != m {
				select {
				case other.lines <- message:
				default:
				}
			}
		}
		lock.Unlock()
	}
	lock.Lock()
	delete(members, m)
	close(m.lines)
	lock.Unlock()
}

func serve(l net.Listener, err error, serveConnection func(net.Conn)) {
	if err != nil {
		panic(err)
	}
	printPort(l.Addr())
	for {
		if c, err := l.Accept(); err == nil {
			go serveConnection(c)
		}
	}
}

func timestamp() {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	printPort(c.LocalAddr())
	buffer := make([]byte, 65536)
	const prefix = 27 // the length of "[Sat Nov 21 00:33:33 2026] "
	second := int64(0)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buffer[prefix:])
		if err != nil {
			continue
		}
		if now := time.Now(); now.Unix() != second {
			second = now.Unix()
			copy(buffer, "["+now.Format(time.ANSIC)+"] ")
		}
		c.WriteToUDPAddrPort(buffer[:prefix+n], from)
	}
}

func main() {
	switch os.Args[1] {
	case "timestamp":
		timestamp()
	case "tls":
		key, err := tls.LoadX509KeyPair(os.Args[2], os.Args[2])
		if err != nil {
			panic(err)
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{key}})
		serve(l, err, echo)
	case "chat":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		serve(l, err, chat)
	default:
		l, err := net.Listen("tcp", "127.0.0.1:0")
		serve(l, err, echo)
	}
}
