/**
 * Applications for the peers suite on Node's own servers: HTTP/1.1 and HTTP/2 without TLS. argv: the address to listen on.
 * Prints {"node-http": port, "node-http2": port}. In a mesh, where PORT says where to listen, it is the one of HTTP/1.1.
 * The paths are those of server.py.
 */
import http from 'node:http';
import http2 from 'node:http2';

/** Answers wait here, by path, until as many came as the path asks for. */
const gates = new Map();
function gate(path, answer) {
  const waiting = gates.get(path) ?? [];
  gates.set(path, waiting);
  waiting.push(answer);
  if (waiting.length < Number(path.split('n=')[1])) return;
  gates.delete(path);
  for (const go of waiting) go();
}

const one = http.createServer((req, res) => {
  const path = req.url;
  res.setHeader('x-peer', 'node-http');
  if (path.startsWith('/gate')) gate(path, () => res.end('open'));
  else if (path === '/early') {
    res.writeEarlyHints({ link: '</style.css>; rel=preload' });
    res.end('late');
  } else if (path === '/echo') {
    if (req.headers['content-length']) res.setHeader('content-length', req.headers['content-length']);
    req.pipe(res);
  } else if (path === '/trailers') {
    let bytes = 0;
    req.on('data', (chunk) => (bytes += chunk.length));
    req.on('end', () => {
      res.write('body');
      res.addTrailers({ 'x-body-bytes': String(bytes), 'x-echo': req.trailers['x-check'] ?? 'none' });
      res.end();
    });
  } else {
    req.resume();
    res.end('hello');
  }
});

const two = http2.createServer({ peerMaxConcurrentStreams: 250, settings: { maxConcurrentStreams: 250 } });
two.on('sessionError', () => {});
two.on('checkContinue', () => {});
two.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  const path = headers[':path'];
  const head = { ':status': 200, 'x-peer': 'node-http2' };
  if (headers.expect === '100-continue') stream.additionalHeaders({ ':status': 100 });
  if (path.startsWith('/gate')) {
    gate(path, () => {
      if (stream.destroyed) return;
      stream.respond(head);
      stream.end('open');
    });
  } else if (path === '/early') {
    stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
    stream.respond(head);
    stream.end('late');
  } else if (path === '/echo') {
    if (headers['content-length']) head['content-length'] = headers['content-length'];
    stream.respond(head);
    stream.pipe(stream);
  } else if (path === '/trailers') {
    let bytes = 0;
    let check = 'none';
    stream.on('trailers', (fields) => (check = fields['x-check'] ?? 'none'));
    stream.on('data', (chunk) => (bytes += chunk.length));
    stream.on('end', () => {
      stream.respond(head, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-body-bytes': String(bytes), 'x-echo': check }));
      stream.end('body');
    });
  } else {
    stream.resume();
    stream.respond(head);
    stream.end('hello');
  }
});

if (process.env.PORT) {
  one.listen(Number(process.env.PORT), process.env.HOST);
} else {
  const host = process.argv[2];
  const listen = (server) => new Promise((resolve) => server.listen(0, host, () => resolve(server.address().port)));
  process.stdout.write(`${JSON.stringify({ 'node-http': await listen(one), 'node-http2': await listen(two) })}\n`);
}
