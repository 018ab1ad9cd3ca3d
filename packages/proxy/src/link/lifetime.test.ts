/** What is open never outlives what it was opened with: certificates, roots, and that nobody has revoked them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, type TestContext, test } from 'node:test';
import tls from 'node:tls';
import {
  clientTlsOptions,
  createAuthority,
  type Identity,
  Revocations,
  type RevokedCertificate,
  TrustBundle,
  withTrust,
} from '@weft/identity';
import { echoes, openAll, TCP } from '../test-long-lived.ts';
import type { TestPair } from '../test-pair.ts';

const WITHIN_MS = 60_000;
const CONNECT_MS = 1500;
const POOL = { connectTimeoutMs: CONNECT_MS };

interface Closing {
  once(event: 'close', heard: () => void): unknown;
}

async function allEnd(what: readonly Closing[], why: string): Promise<void> {
  const names = ['tunnel', 'upgrade', 'stream'];
  await Promise.all(
    what.map(
      (one, i) =>
        new Promise<void>((resolve, reject) => {
          const late = setTimeout(() => reject(new Error(`${why}: the ${names[i]} did not end`)), WITHIN_MS);
          one.once('close', () => {
            clearTimeout(late);
            resolve();
          });
        }),
    ),
  );
}

/** What the caller's application gets of a new connection to the port for bytes. */
async function asksAgain(pair: TestPair): Promise<string> {
  const socket = net.connect(TCP, pair.frontAddress);
  socket.on('error', () => {});
  socket.write('again');
  return new Promise((resolve) => {
    socket.once('data', (d) => {
      resolve(String(d));
      socket.destroy();
    });
    socket.once('close', () => resolve('closed'));
  });
}

function believing(identity: Identity, rootPem: string, revoked: RevokedCertificate[], ids: string[]): Identity {
  const bundle = new TrustBundle(new Map([['cluster.local', rootPem]]), new Revocations(revoked, ids));
  return withTrust(identity, { rootPem, bundle, issuer: identity.issuer });
}

/** The identities that a pair's proxies have now, to say later what they believe. */
async function identities(pair: TestPair): Promise<{ front: Identity; back: Identity }> {
  const made = { front: await pair.identity('front'), back: await pair.identity('back') };
  pair.front.setIdentity(made.front);
  pair.back!.setIdentity(made.back);
  return made;
}

const stranger = async (t: TestContext): Promise<string> => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-lifetime-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return (await createAuthority({ dir, trustDomain: 'cluster.local' })).rootPem;
};

type Act = (pair: TestPair, has: { front: Identity; back: Identity }, otherRoot: string) => void;

const causes: [string, string, Act, counter: string][] = [
  [
    'the called side hears that the caller’s certificate is revoked',
    '127.7.71',
    ({ back }, { front, back: own }) => {
      const revoked = [{ issuer: front.issuer, serial: front.serial }];
      back!.setIdentity(believing(own, own.rootPem, revoked, []));
    },
    'inbound_peer_no_longer_believed',
  ],
  [
    'the caller hears that the called side’s certificate is revoked',
    '127.7.72',
    ({ front }, { front: own, back }) => {
      front.setIdentity(believing(own, own.rootPem, [{ issuer: '', serial: back.serial }], []));
    },
    'link_peer_no_longer_believed',
  ],
  [
    'the called side hears that the caller is revoked, whatever its certificate',
    '127.7.73',
    ({ back }, { back: own, front }) => back!.setIdentity(believing(own, own.rootPem, [], [front.spiffeId])),
    'inbound_peer_no_longer_believed',
  ],
  [
    'the called side believes the caller’s root no more',
    '127.7.74',
    ({ back }, { back: own }, otherRoot) => back!.setIdentity(believing(own, otherRoot, [], [])),
    'inbound_peer_no_longer_believed',
  ],
  [
    'the caller believes the called side’s root no more',
    '127.7.75',
    ({ front }, { front: own }, otherRoot) => front.setIdentity(believing(own, otherRoot, [], [])),
    'link_peer_no_longer_believed',
  ],
];

for (const [why, network, act, counter] of causes) {
  test(`${why}: tunnels, upgrades and streams end, and none is opened again`, async (t) => {
    const pair = await echoes(t, network, POOL);
    const has = await identities(pair);
    const open = Object.values(await openAll(t, pair));
    const ends = allEnd(open, why);
    act(pair, has, await stranger(t));
    await ends;
    const seen = counter.startsWith('link') ? pair.frontSeen : pair.backSeen;
    assert.ok((seen.counts.get(counter) ?? 0) > 0, counter);
    assert.equal(await asksAgain(pair), 'closed');
    assert.equal(pair.back!.core.exchanges.size, 0);
  });
}

test('tunnels, upgrades and streams end with the certificate of their link', async (t) => {
  const pair = await echoes(t, '127.7.76', POOL);
  const open = Object.values(await openAll(t, pair));
  const ends = allEnd(open, 'the certificate ended');
  mock.timers.enable({ apis: ['Date'], now: Date.now() });
  t.after(() => mock.timers.reset());
  // Certificates of the pair live for an hour, and nobody renews them here.
  mock.timers.setTime(Date.now() + 2 * 3_600_000);
  await ends;
  const count = (seen: typeof pair.backSeen): number => seen.counts.get('link_certificate_ended') ?? 0;
  assert.ok(count(pair.backSeen) + count(pair.frontSeen) > 0);
});

test('without a certificate in its time requests wait as long as for a link, and then no more', async (t) => {
  const pair = await echoes(t, '127.7.79', POOL);
  assert.equal(await asksAgain(pair), 'again');
  mock.timers.enable({ apis: ['Date'], now: Date.now() });
  t.after(() => mock.timers.reset());
  mock.timers.setTime(Date.now() + 2 * 3_600_000);
  const waits = async (): Promise<number> => {
    const from = performance.now();
    assert.equal(await asksAgain(pair), 'closed');
    return performance.now() - from;
  };
  const links = pair.front.core.links;
  while (links.counts().links > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok((await waits()) > CONNECT_MS - 50);
  assert.equal(pair.frontSeen.counts.get('link_certificate_awaited'), 1);
  await waits();
  assert.equal(pair.frontSeen.counts.get('link_certificate_awaited'), 1, 'it is missed still: nobody waits anew');
});

test('nothing can be resumed: each connection shows its certificate, and is judged by it', async (t) => {
  const pair = await echoes(t, '127.7.77', POOL);
  const has = await identities(pair);
  const sessions: Buffer[] = [];
  const connect = async (session?: Buffer): Promise<{ reused: boolean; answered: boolean }> => {
    const socket = tls.connect({
      host: pair.backAddress,
      port: 15008,
      ...clientTlsOptions(has.front, new Set([has.back.spiffeId])),
      session,
    });
    socket.on('session', (s) => sessions.push(s));
    socket.on('error', () => {});
    // The server's SETTINGS: it has judged.
    const answered = await new Promise<boolean>((resolve) => {
      socket.once('data', () => resolve(true));
      socket.once('close', () => resolve(false));
    });
    const reused = socket.isSessionReused();
    const state = socket.getSession();
    if (state) sessions.push(state);
    socket.destroy();
    return { reused, answered };
  };
  assert.deepEqual(await connect(), { reused: false, answered: true });
  assert.ok(sessions.length > 0);
  for (const session of [...sessions]) assert.deepEqual(await connect(session), { reused: false, answered: true });
  const revoked = [{ issuer: has.front.issuer, serial: has.front.serial }];
  pair.back!.setIdentity(believing(has.back, has.back.rootPem, revoked, []));
  for (const session of [...sessions]) assert.equal((await connect(session)).answered, false);
});

test('mesh TLS to a captured port ends too: by revocation, and with its certificate', async (t) => {
  const pair = await echoes(t, '127.7.78', POOL);
  const has = await identities(pair);
  const back = pair.back!;
  // In the place of the kernel's redirect to 15006.
  const captured = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    if (back.core.admit(socket)) back.inbound.accept(socket, TCP);
  });
  t.after(() => captured.close());
  await new Promise<void>((resolve) => captured.listen(0, pair.backAddress, resolve));
  const { port } = captured.address() as AddressInfo;
  const open = async (): Promise<tls.TLSSocket> => {
    const options = clientTlsOptions(has.front, new Set([has.back.spiffeId]));
    const socket = tls.connect({ host: pair.backAddress, port, ...options, ALPNProtocols: ['istio'] });
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    socket.write('hello');
    assert.equal(String((await once(socket, 'data'))[0]), 'hello');
    assert.equal(socket.isSessionReused(), false);
    return socket;
  };
  const first = await open();
  let ends = allEnd([first], 'revoked');
  const revoked = [{ issuer: has.front.issuer, serial: has.front.serial }];
  back.setIdentity(believing(has.back, has.back.rootPem, revoked, []));
  await ends;
  assert.equal(pair.backSeen.counts.get('inbound_peer_no_longer_believed'), 1);
  back.setIdentity(believing(has.back, has.back.rootPem, [], []));
  const second = await open();
  ends = allEnd([second], 'the certificate ended');
  mock.timers.enable({ apis: ['Date'], now: Date.now() });
  t.after(() => mock.timers.reset());
  mock.timers.setTime(Date.now() + 2 * 3_600_000);
  await ends;
  assert.equal(pair.backSeen.counts.get('link_certificate_ended'), 1);
});
