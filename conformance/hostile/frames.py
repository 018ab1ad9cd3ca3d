"""Connections that say what they like: frames by hand or by hyperframe, over plaintext or TLS."""
import select
import socket
import ssl
import struct
import time

from hyperframe.frame import Frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
WRITE = 16 * 1024


def frame(kind, flags, stream, payload=b""):
    """Any frame, valid or not."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field without indexing; both shorter than 127 bytes, or the value up to 16 KiB."""
    return b"\0" + size(len(name)) + name + size(len(value)) + value


def size(n):
    if n < 127:
        return bytes([n])
    out, n = b"\x7f", n - 127
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def get(path=b"/", method=0x82):
    """GET (0x83: POST) of a path at the authority `app`; no state of HPACK is used."""
    return bytes([method]) + b"\x86\x04" + size(len(path)) + path + b"\x01\x03app"


def connect(authority):
    return literal(b":method", b"CONNECT") + literal(b":authority", authority)


class Peer:
    """One side of a connection. What comes is parsed as it is read; `ended` is the other side's end or reset."""

    def __init__(self, sock):
        self.sock = sock
        self.ended = False
        self.goaway = None
        self.resets = 0
        self.heads = []
        self.pongs = 0
        self.frames_sent = 0
        self.bytes_sent = 0
        self.buffer = b""

    @classmethod
    def dial(cls, job, small_buffer=False):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if small_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect((job["host"], job["port"]))
        if job.get("tls"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(job["tls"]["ca"])
            context.load_cert_chain(job["tls"]["cert"], job["tls"]["key"])
            context.set_alpn_protocols(["h2"])
            sock = context.wrap_socket(sock)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    def open(self, settings=b""):
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, 1, 0))
        return self

    def send(self, data, frames=1):
        """Everything, however long it takes, reading meanwhile; false when the connection is over."""
        self.frames_sent += frames
        view = memoryview(data)
        self.sock.setblocking(False)
        limit = time.monotonic() + 10
        while view and not self.ended and time.monotonic() < limit:
            try:
                n = self.sock.send(view[:WRITE])
                view = view[n:]
                self.bytes_sent += n
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if not self.reading:
                    return False
                select.select([self.sock], [self.sock], [], 0.05)
            except OSError:
                self.ended = True
            if self.reading:
                self.read(0)
        return not self.ended

    reading = True
    # How long an end is waited for after a flood: not long where none is expected.
    patience = 5

    def read(self, seconds):
        """Parses what is there; waits up to `seconds` for something."""
        self.sock.setblocking(False)
        if seconds > 0 and not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            select.select([self.sock], [], [], seconds)
        while not self.ended:
            try:
                data = self.sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except OSError:
                self.ended = True
                break
            if not data:
                self.ended = True
                break
            self.buffer += data
        while len(self.buffer) >= 9:
            head, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            if len(self.buffer) < 9 + length:
                break
            body, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
            if head.type == GOAWAY:
                self.goaway = struct.unpack(">I", body[4:8])[0]
            elif head.type == RST:
                self.resets += 1
            elif head.type == HEADERS:
                self.heads.append((head.stream_id, body))
            elif head.type == PING and "ACK" in head.flags:
                self.pongs += 1

    def wait(self, seconds, done=lambda: False):
        """Reads until the other side has ended, or `done`."""
        limit = time.monotonic() + seconds
        while not self.ended and not done() and time.monotonic() < limit:
            self.read(0.05)
        return self.ended

    def turn(self):
        """Waits until all that was sent has been looked at."""
        before = self.pongs
        self.send(frame(PING, 0, 0, b"12345678"))
        self.wait(5, lambda: self.pongs > before)
        return not self.ended

    def flood(self, frames, most, limit=20):
        """Pours frames in large writes until the other side ends, `most` of them at most; then waits for the end."""
        until = time.monotonic() + limit
        chunk, count = [], 0
        for n, one in enumerate(frames):
            chunk.append(one)
            count += len(one)
            if count >= WRITE or n + 1 >= most:
                if not self.send(b"".join(chunk), len(chunk)):
                    break
                chunk, count = [], 0
            if n + 1 >= most or time.monotonic() > until:
                break
        if chunk and not self.ended:
            self.send(b"".join(chunk), len(chunk))
        self.wait(self.patience)
        return self

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    def abort(self):
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close()
