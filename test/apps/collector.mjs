// A collector of spans: takes those of Zipkin's form, and tells in short of the first two about a URL (`/?about=…`).
import http from 'node:http';

const spans = [];
const short = ({ traceId, id, parentId, kind, localEndpoint, tags }) => {
  const decisions = Object.entries(tags).filter(([name]) => name.startsWith('weft.decision.'));
  return { traceId, id, parentId, kind, service: localEndpoint.serviceName, decisions };
};

const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (p) => parts.push(p));
  request.on('end', () => {
    if (request.method === 'POST') {
      spans.push(...JSON.parse(Buffer.concat(parts)));
      response.writeHead(202).end();
      return;
    }
    const about = new URL(request.url, 'http://here').searchParams.get('about') ?? '';
    const found = spans.filter((s) => s.tags['http.url'].includes(about));
    response.end(JSON.stringify(found.slice(0, 2).map(short)));
  });
});
server.listen(Number(process.env.PORT ?? 9411), process.env.HOST ?? '0.0.0.0');
