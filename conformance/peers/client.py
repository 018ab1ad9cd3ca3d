"""Clients of the peers suite in Python. argv: python-h11 | python-h2 | httpx | httpx-h2, the base address, the cases.

Prints {"case", "error"} a line, "error" null where it went well.
"""
import asyncio
import functools
import json
import os
import socket
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h11
import httpx

KIND, BASE = sys.argv[1:3]
URL = urlsplit(BASE)
MANY = 100
BIG = bytes((i * 31) % 251 for i in range(1_000_000))
SECONDS = 20
GATE = f"/gate/{os.getpid()}?n={MANY}"


class Answer:
    def __init__(self):
        self.status = 0
        self.body = b""
        self.trailers = {}
        self.interim = []


@functools.cache
def tls_context(alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context


def connect(alpn):
    port = URL.port or (443 if URL.scheme == "https" else 80)
    sock = socket.create_connection((URL.hostname, port), SECONDS)
    if URL.scheme == "https":
        sock = tls_context(alpn).wrap_socket(sock, server_hostname=URL.hostname)
    return sock


def text(fields):
    return {bytes(n).decode().lower(): bytes(v).decode() for n, v in fields}


def ask_h11(method, path, body=b"", trailers=(), expect=False):
    answer = Answer()
    connection = h11.Connection(h11.CLIENT)
    fields = [("host", URL.netloc)]
    if trailers:
        fields += [("transfer-encoding", "chunked"), ("trailer", trailers[0][0])]
    elif body:
        fields.append(("content-length", str(len(body))))
    if expect:
        fields.append(("expect", "100-continue"))
    with connect("http/1.1") as sock:
        def read():
            while True:
                event = connection.next_event()
                if event is not h11.NEED_DATA:
                    return event
                connection.receive_data(sock.recv(65536))

        sock.sendall(connection.send(h11.Request(method=method, target=path, headers=fields)))
        if expect:
            first = read()
            assert isinstance(first, h11.InformationalResponse) and first.status_code == 100, first
            answer.interim.append(100)

        # What is sent is made here and sent beside the reading: an echo comes while the body goes.
        upload = b"".join(
            connection.send(h11.Data(data=body[at : at + 50_000])) for at in range(0, len(body), 50_000)
        ) + connection.send(h11.EndOfMessage(headers=list(trailers)))
        threading.Thread(target=sock.sendall, args=(upload,), daemon=True).start()
        while True:
            event = read()
            if isinstance(event, h11.InformationalResponse):
                answer.interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                answer.status = event.status_code
            elif isinstance(event, h11.Data):
                answer.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                answer.trailers = text(event.headers)
                return answer
            else:
                raise AssertionError(f"the connection ended: {event}")


def ask_h2(requests):
    """Sends all requests, (method, path, body, trailers, expect) each, as streams of one connection."""
    with connect("h2") as sock:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        connection.increment_flow_control_window(1 << 20)
        sock.sendall(connection.data_to_send())
        answers, queues, over = {}, {}, set()

        def flush(stream):
            if stream not in queues:
                return
            body, trailers = queues[stream]
            while body:
                room = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
                if room <= 0:
                    return
                connection.send_data(stream, bytes(body[:room]))
                del body[:room]
            if trailers:
                connection.send_headers(stream, trailers, end_stream=True)
            else:
                connection.end_stream(stream)
            del queues[stream]

        waits = {}
        for method, path, body, trailers, expect in requests:
            stream = connection.get_next_available_stream_id()
            answers[stream] = Answer()
            fields = [(":method", method), (":scheme", URL.scheme), (":authority", URL.netloc), (":path", path)]
            if expect:
                fields.append(("expect", "100-continue"))
            if body and not trailers:
                fields.append(("content-length", str(len(body))))
            upload = bool(body or trailers)
            connection.send_headers(stream, fields, end_stream=not upload)
            if upload:
                (waits if expect else queues)[stream] = (bytearray(body), list(trailers))
                flush(stream)
        while len(over) < len(answers):
            sock.sendall(connection.data_to_send())
            data = sock.recv(65536)
            assert data, "the connection ended"
            for event in connection.receive_data(data):
                stream = getattr(event, "stream_id", None)
                if isinstance(event, h2.events.InformationalResponseReceived):
                    status = int(dict(event.headers)[":status"])
                    answers[stream].interim.append(status)
                    if status == 100 and stream in waits:
                        queues[stream] = waits.pop(stream)
                        flush(stream)
                elif isinstance(event, h2.events.ResponseReceived):
                    answers[stream].status = int(dict(event.headers)[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    answers[stream].body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, h2.events.TrailersReceived):
                    answers[stream].trailers = dict(event.headers)
                elif isinstance(event, h2.events.StreamEnded):
                    over.add(stream)
                elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
                    for waiting in list(queues):
                        flush(waiting)
                elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    raise AssertionError(repr(event))
        connection.close_connection()
        sock.sendall(connection.data_to_send())
        return list(answers.values())


def ask_httpx(method, path, body=b""):
    two = KIND == "httpx-h2"
    with httpx.Client(http1=not two, http2=two, verify=False, timeout=SECONDS, trust_env=False) as client:
        got = client.request(method, BASE + path, content=body or None)
        assert got.http_version == ("HTTP/2" if two else "HTTP/1.1"), got.http_version
        answer = Answer()
        answer.status, answer.body = got.status_code, got.content
        return answer


async def many_httpx():
    two = KIND == "httpx-h2"
    limits = httpx.Limits(max_connections=1 if two else MANY)
    async with httpx.AsyncClient(
        http1=not two, http2=two, verify=False, timeout=SECONDS, trust_env=False, limits=limits
    ) as client:
        got = await asyncio.gather(*(client.get(BASE + GATE) for _ in range(MANY)))
        assert all((g.status_code, g.text) == (200, "open") for g in got)


def ask(method, path, body=b"", trailers=(), expect=False):
    if KIND == "python-h11":
        return ask_h11(method, path, body, trailers, expect)
    if KIND == "python-h2":
        return ask_h2([(method, path, body, trailers, expect)])[0]
    return ask_httpx(method, path, body)


def equal(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


def hello():
    a = ask("GET", "/hello")
    equal((a.status, a.body), (200, b"hello"))


def echo():
    a = ask("POST", "/echo", BIG)
    equal((a.status, len(a.body), a.body == BIG), (200, len(BIG), True))


def trailers():
    a = ask("POST", "/trailers", bytes(5000), (("x-check", "checked"),))
    equal((a.status, a.body), (200, b"body"))
    equal((a.trailers.get("x-body-bytes"), a.trailers.get("x-echo")), ("5000", "checked"))


def early():
    a = ask("GET", "/early")
    equal((a.status, a.body, a.interim), (200, b"late", [103]))


def wait_continue():
    a = ask("POST", "/echo", BIG, (), True)
    equal((a.status, a.body == BIG, 100 in a.interim), (200, True, True))


def gate():
    if KIND == "python-h2":
        answers = ask_h2([("GET", GATE, b"", (), False)] * MANY)
    elif KIND == "python-h11":
        with ThreadPoolExecutor(MANY) as pool:
            answers = list(pool.map(lambda _: ask("GET", GATE), range(MANY)))
    else:
        asyncio.run(many_httpx())
        return
    assert all((a.status, a.body) == (200, b"open") for a in answers)


CASES = {"hello": hello, "echo": echo, "trailers": trailers, "early": early, "continue": wait_continue, "gate": gate}

socket.setdefaulttimeout(SECONDS)
for name in sys.argv[3:]:
    error = None
    try:
        CASES[name]()
    except Exception as e:
        error = f"{type(e).__name__}: {e}"[:300]
    print(json.dumps({"case": name, "error": error}), flush=True)
