// Go's servers of the comparison: peers echo|chat|stamp|tls FILE. Prints its port.
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

func said(address net.Addr) {
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

// A member's lines wait in a channel; who is too slow loses them.
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
		told := []byte(name + lines.Text() + "\n")
		lock.Lock()
		for other := range members {
			if other != m {
				select {
				case other.lines <- told:
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

func serve(l net.Listener, err error, each func(net.Conn)) {
	if err != nil {
		panic(err)
	}
	said(l.Addr())
	for {
		if c, err := l.Accept(); err == nil {
			go each(c)
		}
	}
}

func stamp() {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	said(c.LocalAddr())
	buffer := make([]byte, 65536)
	const stamp = 27 // [Sat Nov 21 00:33:33 2026] and a space
	second := int64(0)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buffer[stamp:])
		if err != nil {
			continue
		}
		if now := time.Now(); now.Unix() != second {
			second = now.Unix()
			copy(buffer, "["+now.Format(time.ANSIC)+"] ")
		}
		c.WriteToUDPAddrPort(buffer[:stamp+n], from)
	}
}

func main() {
	switch os.Args[1] {
	case "stamp":
		stamp()
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
