package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const bulkChunkBytes = 64 << 10

// Reads what the other end sends without pause, on every connection, for the given time.
func bulkLoad(o options) {
	var total atomic.Int64
	var wait sync.WaitGroup
	started := time.Now()
	for range o.connections {
		conn, err := net.Dial("tcp", o.address)
		if err != nil {
			fail(err.Error())
		}
		_ = conn.SetReadDeadline(started.Add(o.length))
		wait.Go(func() {
			defer conn.Close()
			if _, err := conn.Write([]byte("go\n")); err != nil {
				fail(err.Error())
			}
			buffer := make([]byte, 256<<10)
			for {
				n, err := conn.Read(buffer)
				total.Add(int64(n))
				if err == nil {
					continue
				}
				if e, ok := err.(net.Error); !ok || !e.Timeout() {
					fail("the stream ended: " + err.Error())
				}
				return
			}
		})
	}
	wait.Wait()
	say(result{Requests: o.connections, Bytes: total.Load(), Seconds: time.Since(started).Seconds()})
}

// Waits for the first bytes of a connection, then sends until it closes.
func serveBulk(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
				return
			}
			chunk := make([]byte, bulkChunkBytes)
			for {
				if _, err := conn.Write(chunk); err != nil {
					return
				}
			}
		}()
	}
}
