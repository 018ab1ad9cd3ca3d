import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import tls from 'node:tls';
import { createAuthority } from './ca.ts';
import { rootIdOf } from './key-id.ts';
import { peerCertificate } from './peer-certificate.ts';
import { createKeyAndCsr } from './request.ts';
import { assembleIdentity, type Identity } from './store.ts';
import { cacerts, EC } from './test-cacerts.ts';
import { checkPeer, clientTlsOptions, serverTlsOptions, signersOf } from './tls.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-peer-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** How many certificates the peer is still known to have shown, and the root. */
function chainLength(socket: tls.TLSSocket): number {
  let at = socket.getPeerCertificate(true);
  let n = 0;
  for (; at?.raw; n++) {
    if (at.issuerCertificate === at) return n + 1;
    at = at.issuerCertificate;
  }
  return n;
}

const authority = await createAuthority({ dir: cacerts(dir, 'chain', EC), trustDomain: 'cluster.local' });
async function issue(name: string): Promise<Identity> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const signed = await authority.sign(csrPem, { spiffeId: `spiffe://cluster.local/ns/a/sa/${name}`, ttlMs: 60_000 });
  return assembleIdentity({ keyPem, ...signed });
}
const root = rootIdOf(new X509Certificate(authority.rootPem).publicKey);
const server = await issue('server');
const client = await issue('client');

test('a chain with intermediates is whole on both sides after the handshake, however often it is asked for', async () => {
  const listener = tls.createServer(serverTlsOptions(server)).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const socket = tls.connect({ port, host: '127.0.0.1', ...clientTlsOptions(client) });
  const [[accepted]] = (await Promise.all([once(listener, 'secureConnection'), once(socket, 'secureConnect')])) as [
    [tls.TLSSocket],
    unknown,
  ];
  try {
    for (const [side, peer, own] of [
      [accepted, client, server],
      [socket, server, client],
    ] as const)
      for (let again = 0; again < 3; again++) {
        const verdict = checkPeer(side, { bundle: own.bundle });
        assert.equal('spiffeId' in verdict ? verdict.spiffeId : verdict.error, peer.spiffeId);
        assert.equal(side.getPeerX509Certificate()?.fingerprint256, peerCertificate(side)?.fingerprint256);
        assert.equal(peerCertificate(side)?.serialNumber.toLowerCase(), peer.serial);
        assert.deepEqual(signersOf(side, own.bundle), [authority.issuer, root]);
        assert.equal(chainLength(side), 4);
      }
  } finally {
    socket.destroy();
    accepted.destroy();
    listener.close();
  }
});

test('who shows no certificate, or resumes without one, is not taken for authorized', async () => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const listener = tls
      .createServer({
        key: server.keyPem,
        cert: server.chainPem,
        ca: [...server.bundle.pool],
        requestCert: true,
        rejectUnauthorized: false,
        maxVersion,
      })
      .listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    const seen: boolean[][] = [];
    listener.on('secureConnection', (s: tls.TLSSocket) => {
      seen.push([s.isSessionReused(), s.authorized]);
      s.on('error', () => {});
      s.end('x');
    });
    const greet = async (options: tls.ConnectionOptions): Promise<Buffer | undefined> => {
      const s = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion, ...options }).resume();
      let session: Buffer | undefined;
      s.on('session', (given) => {
        session = given;
      });
      await once(s, 'close');
      return session;
    };
    try {
      const nobodys = await greet({});
      await greet({ session: nobodys });
      const ours = await greet({ key: client.keyPem, cert: client.chainPem });
      await greet({ session: ours });
      assert.deepEqual(
        seen,
        [
          [false, false],
          [true, false],
          [false, true],
          [true, true],
        ],
        maxVersion,
      );
    } finally {
      listener.close();
    }
  }
});
