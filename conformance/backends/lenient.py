"""An application on http.server that reads bodies as leniently as people write it. argv: port, log file."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log = open(sys.argv[2], "a", buffering=1, encoding="latin1")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def parse_request(self):
        log.write(self.raw_requestline.decode("latin1").rstrip("\r\n") + "\n")
        return super().parse_request()

    def read_chunks(self):
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            if size == 0:
                break
            self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def answer(self):
        try:
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                self.read_chunks()
            else:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
        except ValueError:
            self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok\n")

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
