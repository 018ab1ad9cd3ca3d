package main

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// What a client says first on HTTP/2: the preface and empty SETTINGS.
const http2Hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// Full mutual handshakes, one after the other by each of the clients: each ends when the server has said something, which
// it does not before it has judged the client's certificate. Nothing is resumed; one key exchange for all servers.
func handshakes(o options) {
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		fail(err.Error())
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		// Whom to believe is the client's work, and not what is measured.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		CurvePreferences:   []tls.CurveID{tls.X25519},
	}
	var mu sync.Mutex
	var all []time.Duration
	r := result{}
	started := time.Now()
	end := started.Add(o.length)
	var clients sync.WaitGroup
	for range o.connections {
		clients.Add(1)
		go func() {
			defer clients.Done()
			for time.Now().Before(end) {
				from := time.Now()
				err := handshake(o.address, config)
				took := time.Since(from)
				mu.Lock()
				if err != nil {
					r.Errors++
					if r.FirstError == "" {
						r.FirstError = err.Error()
					}
				} else {
					all = append(all, took)
				}
				mu.Unlock()
			}
		}()
	}
	clients.Wait()
	r.Requests = len(all)
	r.Seconds = time.Since(started).Seconds()
	r.latencies(all)
	say(r)
}

func handshake(address string, config *tls.Config) error {
	raw, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	// A reset leaves no port behind that waits.
	_ = raw.(*net.TCPConn).SetLinger(0)
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	conn := tls.Client(raw, config)
	if _, err = conn.Write([]byte(http2Hello)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 9))
	return err
}
