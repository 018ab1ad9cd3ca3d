/** Curves and suites of mesh links, as the mesh's settings (`meshMTLS`) choose them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import tls from 'node:tls';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { buildSnapshot } from '@weft/engine';
import { clientTlsOptions } from '@weft/identity';
import { PartSchema, Protocol, type TlsSettingsSchema } from '@weft/plan';
import type { DataPlane } from '../data-plane.ts';
import { testPair } from '../test-pair.ts';

/** The plan that is in force, with these settings in it. */
function choose(plane: DataPlane, value: MessageInitShape<typeof TlsSettingsSchema> | undefined): void {
  const { snapshot, epoch } = plane.core;
  assert.ok(snapshot);
  const tlsPart = value && create(PartSchema, { kind: { case: 'tls', value } });
  const said = buildSnapshot(tlsPart ? [tlsPart] : [], []).tls;
  plane.apply({ ...snapshot, tls: said }, epoch + 1n);
}

test('a handshake by a curve or a suite that is not chosen is refused, and the choice may be taken back', async (t) => {
  const ports = [{ port: 80, protocol: Protocol.TCP, appHost: '127.9.51.3', appPort: 80 }];
  const { back, backAddress, identity } = await testPair(t, { network: '127.9.51', ports });
  assert.ok(back);
  const caller = await identity('front');
  const made = async (curve: string, suite = 'TLS_AES_128_GCM_SHA256'): Promise<string> => {
    const own = { ...caller, tls: { curves: [curve], cipherSuites: [suite] } };
    const socket = tls.connect({ host: backAddress, port: 15008, ...clientTlsOptions(own) });
    t.after(() => socket.destroy());
    return once(socket, 'secureConnect').then(
      () => `${socket.getProtocol()} ${socket.getCipher().name}`,
      (error: NodeJS.ErrnoException) => error.code ?? '',
    );
  };
  const DONE = 'TLSv1.3 TLS_AES_128_GCM_SHA256';
  const REFUSED = 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE';
  assert.deepEqual(await Promise.all([made('P-256'), made('P-384')]), [DONE, DONE]);
  choose(back, { meshCurves: ['P-384'], meshCipherSuites: [] });
  assert.deepEqual(await Promise.all([made('P-256'), made('X25519'), made('P-384')]), [REFUSED, REFUSED, DONE]);
  // A renewed certificate changes nothing of it.
  back.setIdentity(await identity('back'));
  assert.deepEqual(await Promise.all([made('P-256'), made('P-384')]), [REFUSED, DONE]);
  choose(back, { meshCurves: ['P-384', 'X25519'], meshCipherSuites: ['TLS_AES_256_GCM_SHA384'] });
  const strong = 'TLS_AES_256_GCM_SHA384';
  assert.deepEqual(await Promise.all([made('P-384'), made('X25519', strong), made('P-256', strong)]), [
    REFUSED,
    `TLSv1.3 ${strong}`,
    REFUSED,
  ]);
  choose(back, undefined);
  assert.deepEqual(await Promise.all([made('P-256'), made('X25519', strong)]), [DONE, `TLSv1.3 ${strong}`]);
});

test('traffic goes on as both sides choose, by links that are made anew', async (t) => {
  const app = net.createServer((socket) => void socket.on('error', () => {}).pipe(socket));
  app.listen(8080, '127.9.52.3');
  await once(app, 'listening');
  t.after(() => app.close());
  const ports = [{ port: 80, protocol: Protocol.TCP, appHost: '127.9.52.3', appPort: 8080 }];
  const { front, back, frontAddress } = await testPair(t, { network: '127.9.52', ports });
  assert.ok(back);
  const echoed = async (text: string): Promise<string> => {
    const socket = net.connect(80, frontAddress);
    t.after(() => socket.destroy());
    socket.on('error', () => {});
    socket.write(text);
    return new Promise((resolve) => {
      socket.once('data', (d) => resolve(String(d)));
      socket.once('close', () => resolve('closed'));
    });
  };
  choose(back, { meshCurves: ['X25519'] });
  choose(front, { meshCurves: ['P-384'] });
  assert.equal(await echoed('apart'), 'closed');
  choose(front, { meshCurves: ['P-384', 'X25519'] });
  assert.equal(await echoed('common'), 'common');
  // Links that are open carry on until their successors are there.
  choose(front, { meshCurves: ['P-521'] });
  choose(back, { meshCurves: ['P-521'] });
  assert.equal(await echoed('other'), 'other');
});
