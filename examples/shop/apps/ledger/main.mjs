// An opaque TCP line protocol in which the server speaks first.
import net from 'node:net';

const lines = [];
const server = net.createServer((socket) => {
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.write('LEDGER/1 ready\r\n');
  let rest = '';
  socket.on('data', (chunk) => {
    rest += chunk.toString();
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      const line = rest.slice(0, end).trim();
      rest = rest.slice(end + 1);
      if (line.startsWith('ADD ')) {
        lines.push(line.slice(4));
        if (lines.length > 1000) lines.shift();
        socket.write(`OK ${lines.length}\r\n`);
      } else if (line === 'QUIT') socket.end('BYE\r\n');
      else socket.write('ERR unknown command, say ADD text or QUIT\r\n');
    }
    if (rest.length > 4096) socket.destroy();
  });
});
const port = Number(process.env.PORT ?? 7000);
server.listen(port, process.env.HOST, () => console.log(`ledger listens on ${process.env.HOST ?? '*'}:${port}`));
process.on('SIGTERM', () => process.exit(0));
