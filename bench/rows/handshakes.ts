/** `handshakes`: new links, which show certificates and carry nothing. */
import { writeFileSync } from 'node:fs';
import { load } from '../load/go.ts';
import { p50Figure, p99Figure, type Row } from './row.ts';

const CLIENTS = 16;

export const handshakes: Row = {
  name: 'handshakes',
  what: `full mutual TLS 1.3 handshakes (P-256, X25519) with the server's proxy, ${CLIENTS} clients, as fast as they come`,
  kind: 'http',
  peers: ['haproxy', 'envoy'],
  figures: [
    { key: 'cpu', unit: 'µs CPU/handshake', digits: 0 },
    { key: 'rate', unit: 'handshakes/s', digits: 0 },
    p50Figure,
    p99Figure,
  ],
  async measure({ stage, chain, seconds }) {
    const { chainPem, keyPem } = stage.certificates.front;
    const files = { cert: stage.file('handshakes-cert.pem'), key: stage.file('handshakes-key.pem') };
    writeFileSync(files.cert, chainPem);
    writeFileSync(files.key, keyPem, { mode: 0o600 });
    const address = `${chain.mesh.host}:${chain.mesh.port}`;
    const r = await load(stage, chain, 'handshakes', {
      address,
      ...files,
      connections: CLIENTS,
      length: `${seconds}s`,
    });
    return { cpu: r.cpuUs / r.requests, rate: r.requests / r.seconds, p50: r.p50Ms, p99: r.p99Ms };
  },
};
