"""For what varnishtest cannot do itself: trailers, half-closed connections and resets. Run as `python3 -S -`; argv: the
proxy's address, the application's address."""

import socket
import struct
import sys


def address(text):
    host, port = text.split(":")
    return host, int(port)


server = socket.create_server(address(sys.argv[2]))
server.settimeout(15)


def connect():
    client = socket.create_connection(address(sys.argv[1]))
    client.settimeout(15)
    return client


def accept():
    peer, _ = server.accept()
    peer.settimeout(15)
    return peer


def read_until(sock, end):
    got = b""
    while end not in got:
        some = sock.recv(65536)
        if not some:
            sys.exit(f"the connection ended after {got!r}")
        got += some
    return got


def read_all(sock):
    """Until the end; a reset is one too, and told as such."""
    got = b""
    while True:
        try:
            some = sock.recv(65536)
        except ConnectionResetError:
            return got + b"<reset>"
        if not some:
            return got
        got += some


def end(sock):
    sock.shutdown(socket.SHUT_WR)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def expect(text, *wanted):
    for part in wanted:
        if part.lower() not in text.lower():
            sys.exit(f"{part!r} is not in {text!r}")


def expect_none(text, *unwanted):
    for part in unwanted:
        if part.lower() in text.lower():
            sys.exit(f"{part!r} is in {text!r}")
