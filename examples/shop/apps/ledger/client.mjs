// One connection a line: greeting, ADD, answer.
import net from 'node:net';
import { serviceAddress } from '../lib/http.mjs';

/** A TCP connection to the ledger, through an HTTP proxy's CONNECT where the environment names one. */
function dial() {
  const to = serviceAddress('ledger', 7000);
  const proxy = process.env.http_proxy ?? process.env.HTTP_PROXY;
  if (!proxy) return Promise.resolve(net.connect(to.port, to.host));
  const url = new URL(proxy);
  const socket = net.connect(Number(url.port), url.hostname);
  const login = Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString(
    'base64',
  );
  socket.write(
    `CONNECT ${to.host}:${to.port} HTTP/1.1\r\nhost: ${to.host}:${to.port}\r\nproxy-authorization: Basic ${login}\r\n\r\n`,
  );
  return new Promise((resolve, reject) => {
    let head = '';
    socket.once('error', reject);
    socket.on('data', function read(chunk) {
      head += chunk.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      socket.pause(); // what is put back must wait for the next listener
      socket.removeListener('data', read);
      if (!/^HTTP\/1\.1 200/.test(head)) {
        socket.destroy();
        reject(new Error(`ledger: proxy answered ${head.split('\r\n')[0]}`));
        return;
      }
      const rest = Buffer.from(head.slice(end + 4), 'latin1');
      if (rest.length) socket.unshift(rest);
      resolve(socket);
    });
  });
}

export async function addToLedger(text) {
  const socket = await dial();
  return new Promise((resolve, reject) => {
    let all = '';
    let greeted = false;
    socket.setTimeout(5000, () => socket.destroy(new Error('ledger: no answer in 5 s')));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('ledger: closed before it answered')));
    socket.on('data', (chunk) => {
      all += chunk.toString();
      if (!greeted && all.includes('\n')) {
        if (!all.startsWith('LEDGER/1')) return socket.destroy(new Error('ledger: no greeting'));
        greeted = true;
        all = all.slice(all.indexOf('\n') + 1);
        socket.write(`ADD ${text}\r\n`);
      }
      if (greeted && all.includes('\n')) {
        resolve(all.trim());
        socket.end('QUIT\r\n');
      }
    });
    socket.resume();
  });
}
