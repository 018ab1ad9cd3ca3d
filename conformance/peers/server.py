"""Applications for the peers suite on h11 and h2. argv: the address to listen on.

Prints {"python-h11": port, "python-h2": port}. Paths:
  /hello     "hello"
  /echo      the body as it comes
  /trailers  "body", then trailers x-body-bytes and x-echo (the request's trailer x-check, or "none")
  /early     103 with a Link field, then "late"
  /gate/ID?n=N  "open", once N of these wait
Every answer names its server in x-peer.
"""
import asyncio
import json
import sys

import h11
import h2.config
import h2.connection
import h2.events
import h2.exceptions

gates = {}


def gate(path, answer):
    waiting = gates.setdefault(path, [])
    waiting.append(answer)
    if len(waiting) >= int(path.split("n=")[1]):
        for go in gates.pop(path):
            go()


class Exchange:
    """What an application does with one request; subclasses say how its answer is written."""

    peer = ""

    def begin(self, path, fields):
        self.path = path
        self.bytes = 0
        if fields.get("expect", "").lower() == "100-continue":
            self.interim(100, [])
        if path == "/early":
            self.interim(103, [("link", "</style.css>; rel=preload")])
        if path == "/echo":
            length = fields.get("content-length")
            self.head([("content-length", length)] if length else [])

    def data(self, data):
        self.bytes += len(data)
        if self.path == "/echo":
            self.body(data)

    def end(self, trailers):
        if self.path == "/echo":
            self.finish([])
        elif self.path == "/trailers":
            self.head([])
            self.body(b"body")
            self.finish([("x-body-bytes", str(self.bytes)), ("x-echo", trailers.get("x-check", "none"))])
        elif self.path.startswith("/gate"):
            gate(self.path, lambda: self.answer(b"open"))
        else:
            self.answer(b"late" if self.path == "/early" else b"hello")

    def answer(self, text):
        self.head([("content-length", str(len(text)))])
        self.body(text)
        self.finish([])


def text(fields):
    return {bytes(n).decode().lower(): bytes(v).decode() for n, v in fields}


class H11Exchange(Exchange):
    def __init__(self, protocol):
        self.protocol = protocol

    def interim(self, status, fields):
        self.protocol.send(h11.InformationalResponse(status_code=status, headers=fields))

    def head(self, fields):
        self.protocol.send(h11.Response(status_code=200, headers=[("x-peer", "python-h11"), *fields]))

    def body(self, data):
        self.protocol.send(h11.Data(data=data))

    def finish(self, trailers):
        self.protocol.send(h11.EndOfMessage(headers=trailers))
        self.protocol.next()


class H11Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.connection = h11.Connection(h11.SERVER)
        self.exchange = None

    def send(self, event):
        data = self.connection.send(event)
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data):
        self.connection.receive_data(data)
        self.read()

    def eof_received(self):
        self.connection.receive_data(b"")
        self.read()

    def next(self):
        if self.connection.states[h11.CLIENT] is h11.MUST_CLOSE or self.connection.states[h11.SERVER] is h11.MUST_CLOSE:
            self.transport.close()
        elif self.connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self.connection.start_next_cycle()
            asyncio.get_running_loop().call_soon(self.read)

    def read(self):
        while True:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError:
                self.transport.close()
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Request):
                self.exchange = H11Exchange(self)
                self.exchange.begin(event.target.decode(), text(event.headers))
            elif isinstance(event, h11.Data):
                self.exchange.data(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.exchange.end(text(event.headers))
            else:
                self.transport.close()
                return


class H2Exchange(Exchange):
    def __init__(self, protocol, stream):
        self.protocol = protocol
        self.stream = stream
        self.queue = bytearray()
        self.trailers = None
        self.over = False

    def interim(self, status, fields):
        self.protocol.connection.send_headers(self.stream, [(":status", str(status)), *fields])

    def head(self, fields):
        self.protocol.connection.send_headers(self.stream, [(":status", "200"), ("x-peer", "python-h2"), *fields])

    def body(self, data):
        self.queue += data
        self.flush()

    def finish(self, trailers):
        self.trailers = trailers
        self.flush()
        self.protocol.write()

    def flush(self):
        connection = self.protocol.connection
        while self.queue:
            room = min(connection.local_flow_control_window(self.stream), connection.max_outbound_frame_size)
            if room <= 0:
                return
            connection.send_data(self.stream, bytes(self.queue[:room]))
            del self.queue[:room]
        if self.trailers is not None and not self.over:
            self.over = True
            if self.trailers:
                connection.send_headers(self.stream, self.trailers, end_stream=True)
            else:
                connection.end_stream(self.stream)
            del self.protocol.exchanges[self.stream]


class H2Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.exchanges = {}
        self.connection.initiate_connection()
        self.write()

    def write(self):
        data = self.connection.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data):
        try:
            events = self.connection.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            sys.stderr.write(f"python-h2: {error!r}\n")
            self.write()
            self.transport.close()
            return
        for event in events:
            self.event(event)
        self.write()

    def event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            fields = dict(event.headers)
            exchange = self.exchanges[event.stream_id] = H2Exchange(self, event.stream_id)
            exchange.received = {}
            exchange.begin(fields[":path"], fields)
        elif isinstance(event, h2.events.DataReceived):
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self.exchanges:
                self.exchanges[event.stream_id].data(event.data)
        elif isinstance(event, h2.events.TrailersReceived):
            self.exchanges[event.stream_id].received = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            if event.stream_id in self.exchanges:
                exchange = self.exchanges[event.stream_id]
                exchange.end(exchange.received)
        elif isinstance(event, h2.events.StreamReset):
            self.exchanges.pop(event.stream_id, None)
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            for exchange in list(self.exchanges.values()):
                exchange.flush()
        elif isinstance(event, h2.events.ConnectionTerminated):
            if event.error_code:
                sys.stderr.write(f"python-h2: GOAWAY {event.error_code} {event.additional_data!r}\n")
            self.transport.close()


async def main():
    loop = asyncio.get_running_loop()
    ports = {}
    for name, protocol in (("python-h11", H11Protocol), ("python-h2", H2Protocol)):
        server = await loop.create_server(protocol, sys.argv[1], 0, backlog=512)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
