package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const grpcMessageBytes = 1024

// Unary calls of 1 KB each way, over HTTP/2 without TLS, one HTTP/2 connection per transport: a closed loop.
func grpcLoad(o options) {
	var requests, failures, number atomic.Int64
	var mu sync.Mutex
	var latencies []time.Duration
	var first error
	var wait sync.WaitGroup
	body := grpcFrame(make([]byte, grpcMessageBytes))
	started := time.Now()
	end := started.Add(o.length)
	for range o.connections {
		client := &http.Client{Transport: h2c(), Timeout: 15 * time.Second}
		for range o.streams {
			wait.Go(func() {
				mine := make([]time.Duration, 0, 1<<14)
				for time.Now().Before(end) {
					sent := time.Now()
					if err := call(client, o.address, int(number.Add(1)), body); err != nil {
						failures.Add(1)
						mu.Lock()
						if first == nil {
							first = err
						}
						mu.Unlock()
						continue
					}
					requests.Add(1)
					mine = append(mine, time.Since(sent))
				}
				mu.Lock()
				latencies = append(latencies, mine...)
				mu.Unlock()
			})
		}
	}
	wait.Wait()
	r := result{Requests: int(requests.Load()), Errors: int(failures.Load()), Seconds: time.Since(started).Seconds()}
	if first != nil {
		r.FirstError = first.Error()
	}
	r.latencies(latencies)
	say(r)
}

func h2c() *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols), MaxConnsPerHost: 1}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

func grpcFrame(message []byte) []byte {
	frame := make([]byte, 5+len(message))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	copy(frame[5:], message)
	return frame
}

func call(client *http.Client, address string, n int, body []byte) error {
	request, err := http.NewRequest("POST", "http://"+address+"/bench.Echo/Say", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header["Content-Type"] = []string{"application/grpc"}
	request.Header["Te"] = []string{"trailers"}
	request.Header["X-Visitor"] = []string{fmt.Sprint("visitor-", n*7919%100003)}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	got, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return err
	}
	status := response.Trailer.Get("Grpc-Status")
	if response.StatusCode != 200 || status != "0" || got != int64(len(body)) {
		return fmt.Errorf("answered %d, grpc-status %q, %d bytes", response.StatusCode, status, got)
	}
	return nil
}

// Echoes a unary message.
func serveGrpc(listener net.Listener) error {
	server := &http.Server{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header()["Content-Type"] = []string{"application/grpc"}
		w.Header()["Trailer"] = []string{"Grpc-Status"}
		_, _ = w.Write(message)
		w.Header().Set("Grpc-Status", "0")
	})
	return server.Serve(listener)
}
