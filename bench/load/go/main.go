// Load and applications of the benchmark that no packaged tool gives as needed: a constant rate whose latency is counted
// from the moment a request was due (so that a stalled proxy cannot hide the requests it kept from being sent), gRPC with
// a header that varies, ten thousand WebSockets, and bytes over plain TCP. Results are one JSON line on stdout.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: load rate|grpc|websocket|bulk|handshakes|serve [flags]")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	o := options{}
	flags.StringVar(&o.address, "address", "", "host:port to load, or to serve on")
	flags.StringVar(&o.kind, "kind", "", "what to serve: grpc, tcp or websocket")
	flags.StringVar(&o.from, "from", "", "the client's own address, where it matters")
	flags.StringVar(&o.cert, "cert", "", "the client's certificate chain, a PEM file (handshakes)")
	flags.StringVar(&o.key, "key", "", "its key, a PEM file (handshakes)")
	flags.IntVar(&o.connections, "connections", 16, "connections")
	flags.IntVar(&o.streams, "streams", 1, "requests at a time on each connection (grpc)")
	flags.Float64Var(&o.rate, "rate", 1000, "requests per second, all connections together (rate)")
	flags.DurationVar(&o.length, "length", 5*time.Second, "how long to load")
	flags.DurationVar(&o.period, "period", 10*time.Second, "time between the messages of one WebSocket")
	_ = flags.Parse(os.Args[2:])
	switch os.Args[1] {
	case "rate":
		constantRate(o)
	case "grpc":
		grpcLoad(o)
	case "websocket":
		webSocketLoad(o)
	case "bulk":
		bulkLoad(o)
	case "handshakes":
		handshakes(o)
	case "serve":
		serve(o)
	default:
		fail("unknown command " + os.Args[1])
	}
}

type options struct {
	address     string
	kind        string
	from        string
	cert        string
	key         string
	connections int
	streams     int
	rate        float64
	length      time.Duration
	period      time.Duration
}

type result struct {
	Requests   int     `json:"requests"`
	Errors     int     `json:"errors"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	P50Ms      float64 `json:"p50Ms"`
	P90Ms      float64 `json:"p90Ms"`
	P99Ms      float64 `json:"p99Ms"`
	MaxMs      float64 `json:"maxMs"`
	FirstError string  `json:"firstError,omitempty"`
}

func (r *result) latencies(all []time.Duration) {
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	at := func(q float64) float64 {
		i := min(int(float64(len(all))*q), len(all)-1)
		return float64(all[i].Nanoseconds()) / 1e6
	}
	r.P50Ms, r.P90Ms, r.P99Ms, r.MaxMs = at(0.5), at(0.9), at(0.99), at(1)
}

func say(value any) {
	line, _ := json.Marshal(value)
	fmt.Println(string(line))
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, "load: "+text)
	os.Exit(1)
}
