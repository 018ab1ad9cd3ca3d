"""Hostile upstream servers: one connection at a time, a proper beginning by h2, then the case."""
import itertools
import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import hpack
from hyperframe.frame import PingFrame, PriorityFrame, SettingsFrame, WindowUpdateFrame

from frames import *


def begin(sock):
    """Answers the preface and waits for the first request; gives the peer and the stream's id."""
    c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    c.initiate_connection()
    sock.settimeout(10)
    sock.sendall(c.data_to_send())
    while True:
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("the proxy closed before its request")
        for event in c.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                sock.sendall(c.data_to_send())
                return Peer(sock), event.stream_id
        sock.sendall(c.data_to_send())


def head(*fields):
    return hpack.Encoder().encode([(b":status", b"200"), *fields])


def pour(make, most=200_000):
    def case(peer, stream):
        return peer.flood(make(stream), most)

    return case


def repeat(one):
    return pour(lambda stream: itertools.repeat(one))


def after_head(make, most=200_000):
    def case(peer, stream):
        peer.send(frame(HEADERS, END_HEADERS, stream, head()))
        return peer.flood(make(stream), most)

    return case


def continuation(part):
    def case(peer, stream):
        peer.send(frame(HEADERS, 0, stream, head()))
        return peer.flood(itertools.repeat(frame(CONTINUATION, 0, stream, part)), 10_000)

    return case


def bomb(peer, stream):
    encoder = hpack.Encoder()
    block = encoder.encode([(b":status", b"200"), (b"x-bomb", b"b" * 3900)], huffman=False)
    return peer.flood([frame(HEADERS, END_HEADERS, stream, block + b"\xbe" * 10_000)], 1)


def many_fields(peer, stream):
    block = head() + literal(b"a", b"b") * 2000
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
    peer.wait(2, lambda: peer.resets > 0)
    return peer


def interims(peer, stream):
    one = frame(HEADERS, END_HEADERS, stream, hpack.Encoder().encode([(b":status", b"103")]))
    peer.send(one * 1000, 1000)
    peer.wait(3, lambda: peer.resets > 0)
    return peer


def twins(peer, stream):
    """RST_STREAM and GOAWAY in one write."""
    peer.send(frame(RST, 0, stream, struct.pack(">I", 2)) + frame(GOAWAY, 0, 0, struct.pack(">II", stream, 0)))
    peer.wait(3)
    return peer


def no_more_streams(peer, stream):
    """GOAWAY, and then SETTINGS that allow no stream at all (CVE-2021-32780)."""
    peer.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)) + frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 0)))
    peer.wait(5)
    return peer


def settings(*pairs):
    def case(peer, stream):
        peer.send(frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs)))
        peer.wait(5)
        return peer

    return case


def cut(peer, stream):
    peer.send(frame(HEADERS, END_HEADERS, stream, head((b"content-length", b"100000"))) + frame(DATA, 0, stream, b"x" * 10))
    peer.abort()
    peer.ended = True
    return peer


H2 = {
    "server-settings-flood": repeat(SettingsFrame(settings={4: 65535}).serialize()),
    "server-settings-entries": settings(*[(4, 65535)] * 2400),
    "server-settings-frame-size-0": settings((5, 0)),
    "server-settings-push": settings((2, 1)),
    "server-ping-flood": repeat(PingFrame(opaque_data=b"01234567").serialize()),
    "server-priority-flood": repeat(PriorityFrame(7, depends_on=0).serialize()),
    "server-window-update-flood": repeat(WindowUpdateFrame(0, window_increment=1).serialize()),
    "server-window-overflow": repeat(frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFFFFFF))),
    "server-reset-flood": pour(lambda stream: itertools.repeat(frame(RST, 0, stream, b"\0\0\0\x08"))),
    "server-goaway-flood": pour(lambda stream: itertools.repeat(frame(GOAWAY, 0, 0, struct.pack(">II", stream, 0)))),
    "server-unknown-frames": repeat(frame(0xFA, 255, 3, b"abc")),
    "server-continuation-flood": continuation(literal(b"a", b"b")),
    "server-continuation-empty": continuation(b""),
    "server-hpack-bomb": bomb,
    "server-many-fields": many_fields,
    "server-interim-flood": interims,
    "server-empty-data": after_head(lambda stream: itertools.repeat(frame(DATA, 0, stream))),
    "server-tiny-data": after_head(lambda stream: itertools.repeat(frame(DATA, 0, stream, b"x")), 60_000),
    "server-data-beyond-window": after_head(lambda stream: itertools.repeat(frame(DATA, 0, stream, b"x" * 16384)), 2000),
    "server-data-before-head": pour(lambda stream: [frame(DATA, 0, stream, b"x")], 1),
    "server-oversize-frame": after_head(lambda stream: [frame(DATA, 0, stream, b"x" * 16385)], 1),
    "server-push": pour(lambda stream: [frame(PUSH, END_HEADERS, stream, struct.pack(">I", 2) + get())], 1),
    "server-unasked-stream": pour(lambda stream: [frame(HEADERS, END_HEADERS, stream + 100, head())], 1),
    "server-reset-and-goaway": twins,
    "server-no-more-streams": no_more_streams,
    "server-cut": cut,
}


def raw(parts):
    def case(sock):
        sock.settimeout(10)
        sock.recv(65536)
        peer, sent = Peer(sock), 0
        try:
            for part in parts():
                sock.sendall(part)
                sent += 1
        except OSError:
            peer.ended = True
        peer.frames_sent = sent
        try:
            while not peer.ended and sock.recv(65536):
                pass
            peer.ended = True
        except OSError:
            peer.ended = True
        return peer

    return case


def repeated(first, part, times):
    def parts():
        yield first
        for _ in range(times):
            yield part

    return parts


HTTP1 = {
    "server1-interim-flood": raw(repeated(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, 1000)),
    "server1-endless-field": raw(repeated(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 16384, 2000)),
    "server1-endless-fields": raw(repeated(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 100, 2000)),
    "server1-chunk-extensions": raw(
        repeated(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=", b"y" * 16384, 2000)
    ),
    "server1-unasked-responses": raw(repeated(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" * 100, 2000)),
}


def serve(job, ready):
    """Serves `count` connections with the case; each gives a result."""
    name = job["case"]
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((job["host"], job["port"]))
    listener.listen(64)
    listener.settimeout(10)
    ready()
    ended, frames = True, 0
    try:
        for _ in range(job.get("count", 1)):
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with sock:
                if name in HTTP1:
                    peer = HTTP1[name](sock)
                else:
                    peer, stream = begin(sock)
                    peer = H2[name](peer, stream)
                ended = ended and peer.ended
                frames += peer.frames_sent
    finally:
        listener.close()
    return {"ended": ended, "frames": frames, "resets": peer.resets, "goaway": peer.goaway, "bytes": peer.bytes_sent}
