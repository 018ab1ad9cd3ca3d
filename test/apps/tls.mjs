// A server outside of the mesh that speaks TLS itself, and says what it saw of its client.
import { readFileSync } from 'node:fs';
import https from 'node:https';

const { CERT, KEY, CA, PORT = '8443', HOST } = process.env;
const tls = { cert: readFileSync(CERT), key: readFileSync(KEY), ca: readFileSync(CA), requestCert: true };
const server = https.createServer({ ...tls, rejectUnauthorized: false }, (request, response) => {
  const { servername, authorized } = request.socket;
  const client = request.socket.getPeerCertificate().subject?.CN ?? '';
  response.end(JSON.stringify({ servername, client, authorized, host: request.headers.host }));
});
server.listen(Number(PORT), HOST, () => console.log('listens'));
process.on('SIGTERM', () => process.exit(0));
