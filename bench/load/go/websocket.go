package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	webSocketMessageBytes = 64
	webSocketGuid         = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
	openAtATime           = 64
)

type socket struct {
	conn   net.Conn
	reader *bufio.Reader
}

// Opens all sockets, says {"open": n}, then sends a message on each once per period, spread evenly, and awaits its echo.
// Keeps them open until stdin ends.
func webSocketLoad(o options) {
	runtime.GOMAXPROCS(3)
	sockets := make([]*socket, o.connections)
	var next, failures atomic.Int64
	var mu sync.Mutex
	var latencies []time.Duration
	first := ""
	failed := func(err error) {
		failures.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if first == "" {
			first = err.Error()
		}
	}
	var opening sync.WaitGroup
	for range openAtATime {
		opening.Go(func() {
			for i := next.Add(1) - 1; int(i) < o.connections; i = next.Add(1) - 1 {
				s, err := openWebSocket(o.address, int(i))
				if err != nil {
					failed(err)
					continue
				}
				sockets[i] = s
			}
		})
	}
	opening.Wait()
	say(map[string]int64{"open": int64(o.connections) - failures.Load()})
	var inFlight sync.WaitGroup
	dues := make([]time.Time, o.connections)
	busy := make([]atomic.Bool, o.connections)
	for i, s := range sockets {
		if s == nil {
			continue
		}
		go func() {
			for {
				if err := readEcho(s.reader); err != nil {
					if busy[i].Swap(false) {
						failed(err)
						inFlight.Done()
					}
					return
				}
				now := time.Now()
				if !busy[i].Swap(false) {
					continue
				}
				mu.Lock()
				latencies = append(latencies, now.Sub(dues[i]))
				mu.Unlock()
				inFlight.Done()
			}
		}()
	}
	started := time.Now()
	rate := float64(o.connections) / o.period.Seconds()
	frame := clientFrame(make([]byte, webSocketMessageBytes))
	pace(started, rate, int(rate*o.length.Seconds()), func(d due) {
		i := d.number % o.connections
		if sockets[i] == nil {
			return
		}
		if busy[i].Load() {
			failed(fmt.Errorf("no echo within a period of %s", o.period))
			return
		}
		dues[i] = d.at
		busy[i].Store(true)
		inFlight.Add(1)
		_, _ = sockets[i].conn.Write(frame)
	})
	answered := make(chan struct{})
	go func() { inFlight.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(10 * time.Second):
	}
	mu.Lock()
	defer mu.Unlock()
	r := result{Requests: len(latencies), Errors: int(failures.Load()), Seconds: time.Since(started).Seconds(), FirstError: first}
	for i := range busy {
		if busy[i].Load() {
			r.Errors++
		}
	}
	r.latencies(latencies)
	say(r)
	_, _ = io.Copy(io.Discard, os.Stdin) // Stays open until somebody has looked at the proxies.
}

func openWebSocket(address string, n int) (*socket, error) {
	conn, err := net.DialTimeout("tcp", address, 15*time.Second)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	_, err = fmt.Fprintf(conn, "GET /item/%d HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", n, webSocketKey(n))
	if err != nil {
		return nil, err
	}
	reader := bufio.NewReaderSize(conn, 512)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("upgrade answered %s", response.Status)
	}
	return &socket{conn, reader}, conn.SetDeadline(time.Time{})
}

func webSocketKey(n int) string {
	raw := make([]byte, 16)
	binary.BigEndian.PutUint64(raw, uint64(n))
	return base64.StdEncoding.EncodeToString(raw)
}

// A masked binary frame, with a mask of zeros.
func clientFrame(payload []byte) []byte {
	return append([]byte{0x82, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}

func readEcho(r *bufio.Reader) error {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	if head[0] != 0x82 || head[1] != webSocketMessageBytes {
		return fmt.Errorf("a frame that is no echo: % x", head)
	}
	_, err := r.Discard(webSocketMessageBytes)
	return err
}

// Accepts upgrades and echoes short frames.
func serveWebSockets(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			reader := bufio.NewReaderSize(conn, 512)
			request, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			accept := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + webSocketGuid))
			_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(accept[:]))
			if err != nil {
				return
			}
			echo(conn, reader)
		}()
	}
}

func echo(conn net.Conn, r *bufio.Reader) {
	frame := make([]byte, 6+125)
	for {
		if _, err := io.ReadFull(r, frame[:6]); err != nil {
			return
		}
		length := int(frame[1] & 0x7f)
		if length > 125 || frame[1]&0x80 == 0 {
			return
		}
		if _, err := io.ReadFull(r, frame[6:6+length]); err != nil {
			return
		}
		for i := range length {
			frame[6+i] ^= frame[2+i%4]
		}
		answer := append([]byte{frame[0], byte(length)}, frame[6:6+length]...)
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}
