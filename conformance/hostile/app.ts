/** The application that hostile clients ask: answers of some sizes, none at all, none with a body. argv: host, port. */
import http from 'node:http';

const mid = Buffer.alloc(20_000, 'm');
const large = Buffer.alloc(200_000, 'l');
const big = Buffer.alloc(1024 * 1024, 'b');
const filler = 'f'.repeat(8000);

const server = http.createServer((request, response) => {
  response.on('error', () => {});
  if (request.url === '/hold') return;
  if (request.url === '/read') request.resume().on('end', () => response.end('read'));
  else if (request.url === '/none') response.writeHead(204, { 'x-filler': filler }).end();
  else if (request.url === '/mid') response.end(mid);
  else if (request.url === '/large') response.end(large);
  else if (request.url === '/big') response.end(big);
  else response.end('fine');
});
server.requestTimeout = 0;
server.headersTimeout = 0;
server.on('clientError', (_error, socket) => socket.destroy());
server.listen({ host: process.argv[2], port: Number(process.argv[3]), backlog: 4096 }, () => process.send?.('ready'));
process.on('disconnect', () => process.exit(0));
