package main

import "net"

// The applications at the end of a chain.
func serve(o options) {
	listener, err := net.Listen("tcp", o.address)
	if err != nil {
		fail(err.Error())
	}
	switch o.kind {
	case "grpc":
		err = serveGrpc(listener)
	case "tcp":
		err = serveBulk(listener)
	case "websocket":
		err = serveWebSockets(listener)
	default:
		fail("-kind is grpc, tcp or websocket")
	}
	fail(err.Error())
}
