/** Two live data planes with real certificates, one fault planted at a time: exactly one finding, which names it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger, systemClock, VirtualClock } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import {
  type Authority,
  assembleIdentity,
  createAuthority,
  createKeyAndCsr,
  type Identity,
  Revocations,
  TrustBundle,
  withTrust,
} from '@weft/identity';
import { ClientTls, EndpointsSchema, MtlsMode, outboundClusterName, type Part, PartSchema, Protocol } from '@weft/plan';
import { type AdminState, DataPlane, loopbackConnector, silentObserver, startAdmin } from '@weft/proxy';
import { Registry } from '@weft/telemetry';
import { type CheckOptions, type CheckResult, check } from './check.ts';

const HOST = 'pay.shop.svc.cluster.local';
const DOMAIN = 'cluster.local';
const HOUR_MS = 3_600_000;
const id = (account: string): string => `spiffe://${DOMAIN}/ns/shop/sa/${account}`;

/** What a fault changes; everything else is well. */
interface Fault {
  cart?: { identity?: Identity; aheadMs?: number; injected?: boolean; silent?: boolean };
  pay?: { identity?: Identity; injected?: boolean; mode?: MtlsMode };
  tls?: ClientTls;
  endpoint?: { identity?: string; meshPort?: number; port?: number; mtlsDisabled?: boolean; instance?: string };
}

interface Cas {
  own: Authority;
  /** The same root, two hours ago. */
  past: Authority;
  /** Another root for the same trust domain. */
  other: Authority;
}

async function authorities(t: TestContext): Promise<Cas> {
  const dir = mkdtempSync(join(tmpdir(), 'weft-check-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const make = (name: string, clock = systemClock as typeof systemClock | VirtualClock) =>
    createAuthority({ dir: join(dir, name), trustDomain: DOMAIN, clock });
  return {
    own: await make('own'),
    past: await make('own', new VirtualClock(Date.now() - 2 * HOUR_MS)),
    other: await make('other'),
  };
}

async function identity(authority: Authority, account: string): Promise<Identity> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  return assembleIdentity({ keyPem, ...(await authority.sign(csrPem, { spiffeId: id(account), ttlMs: HOUR_MS })) });
}

function believing(identity: Identity, roots: string[], revoked = Revocations.none): Identity {
  const rootPem = roots.join('\n');
  return withTrust(identity, { rootPem, issuer: '', bundle: new TrustBundle(new Map([[DOMAIN, rootPem]]), revoked) });
}

let network = 0;

async function checked(cas: Cas, fault: Fault): Promise<CheckResult> {
  const base = `127.8.${70 + network++}`;
  const [cartAddress, payAddress] = [`${base}.1`, `${base}.2`];
  const closers: (() => unknown)[] = [];
  const part = (kind: Part['kind']): Part => create(PartSchema, { kind });
  const self = (name: string, address: string, services: string[]): Part =>
    part({
      case: 'self',
      value: {
        ...{ instance: `${name}-0`, workload: name, namespace: 'shop', serviceAccount: name },
        ...{ trustDomain: DOMAIN, address, services },
      } as never,
    });
  const admins = new Map<string, number>();
  const plane = async (name: string, address: string, own: Identity, parts: Part[], endpoints: never[]) => {
    const made = new DataPlane({
      address,
      capture: 'explicit',
      bind: { outbound: { host: address, port: 15001 }, mesh: { host: address, port: 15008 } },
      observer: silentObserver,
      logger: silentLogger,
      connector: loopbackConnector(address),
    });
    closers.push(() => made.close());
    made.setIdentity(own);
    made.apply(buildSnapshot(parts, endpoints), 1n);
    await made.listen();
    const byName = new Map(parts.map((p, i) => [`${p.kind.case}/${i}`, p]));
    const state: AdminState = {
      bootstrap: { mesh: 'test', instance: `${name}-0`, trustDomain: DOMAIN, capture: 'explicit', address },
      ready: true,
      draining: false,
      epoch: 1n,
      parts: byName,
      endpoints: new Map(),
      references: new Map(),
      certificate: own,
      detected: () => [],
      counts: () => made.counts(),
      wallMs: () => Date.now() + (name === 'cart' ? (fault.cart?.aheadMs ?? 0) : 0),
      probe: (host, port) => made.probe(host, port),
    };
    const admin = await startAdmin({
      bind: { admin: { host: address, port: 0 } },
      state,
      metrics: new Registry(),
      logger: silentLogger,
    });
    closers.push(() => admin.close());
    admins.set(`${name}-0`, admin.ports.admin!);
  };
  try {
    const application = net.createServer((s) => s.destroy()).listen(8080, payAddress);
    closers.push(() => application.close());
    const cluster = part({
      case: 'cluster',
      value: { name: outboundClusterName(80, '', HOST), host: HOST, port: 80, tls: fault.tls, tlsRef: 'rule' } as never,
    });
    const endpoint = {
      ...{ instance: 'pay-0', address: payAddress, port: 8080, meshPort: 15008, identity: id('pay') },
      ...{ workload: 'pay', namespace: 'shop' },
      ...fault.endpoint,
    };
    const endpoints = [create(EndpointsSchema, { host: HOST, port: 80, endpoints: [endpoint] })] as never[];
    const cartOwn = fault.cart?.identity ?? (await identity(cas.own, 'cart'));
    await plane('cart', cartAddress, cartOwn, [self('cart', cartAddress, []), cluster], endpoints);
    const inbound = part({
      case: 'inbound',
      value: {
        ...{ port: 8080, protocol: Protocol.HTTP, mtls: fault.pay?.mode ?? MtlsMode.STRICT, mtlsRef: 'policy' },
        ...{ serviceHost: HOST, servicePort: 80, dialAddress: payAddress, dialPort: 8080 },
      } as never,
    });
    const payOwn = fault.pay?.identity ?? (await identity(cas.own, 'pay'));
    await plane('pay', payAddress, payOwn, [self('pay', payAddress, [HOST]), inbound], []);
    const options: CheckOptions = {
      from: { name: 'cart-0', injected: fault.cart?.injected ?? true, reason: 'its label says so' },
      to: [{ name: 'pay-0', injected: fault.pay?.injected ?? true, reason: 'its label says so' }],
      service: { host: HOST, port: 80 },
      mode: 'STRICT',
      nowMs: () => Date.now(),
      ask: (instance, path) => {
        if (fault.cart?.silent && instance === 'cart-0') return Promise.reject(new Error('ECONNREFUSED'));
        return get(instance === 'cart-0' ? cartAddress : payAddress, admins.get(instance)!, path);
      },
    };
    return await check(options);
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

function get(host: string, port: number, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host, port, path, agent: false }, (response) => {
      let text = '';
      response.on('data', (d) => (text += d));
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`${response.statusCode} ${text}`));
      });
    });
    request.on('error', reject);
  });
}

test('two workloads that can: no finding', async (t) => {
  const cas = await authorities(t);
  const result = await checked(cas, {});
  assert.deepEqual(result.findings, []);
  assert.deepEqual(result.endpoints, [{ instance: 'pay-0', identity: id('pay'), mtls: true }]);
});

test('planted faults: exactly one finding each', async (t) => {
  const cas = await authorities(t);
  const roots = [cas.own.rootPem, cas.other.rootPem];
  const cart = await identity(cas.own, 'cart');
  const revoked = new Revocations([{ issuer: '', serial: cart.serial }], []);
  const faults: [string, Fault, string, RegExp][] = [
    [
      '1 the caller has no proxy',
      { cart: { injected: false } },
      'source-no-proxy cart-0',
      /its label says so.*STRICT refuses it/,
    ],
    [
      '2 the called one has no proxy',
      { pay: { injected: false }, endpoint: { meshPort: 0 } },
      'destination-no-proxy pay-0',
      /its label says so/,
    ],
    ['3 the rule says DISABLE', { tls: ClientTls.DISABLE }, 'client-tls-rule cart-0', /DISABLE.*sends plaintext/],
    ['4 the rule says SIMPLE', { tls: ClientTls.SIMPLE }, 'client-tls-rule cart-0', /SIMPLE.*application's/],
    [
      '5 PeerAuthentication DISABLE',
      { pay: { mode: MtlsMode.DISABLE }, endpoint: { mtlsDisabled: true } },
      'peer-authentication pay-0',
      /DISABLE for port 8080/,
    ],
    [
      "6 the caller's certificate has ended",
      { cart: { identity: await identity(cas.past, 'cart') } },
      'source-certificate cart-0',
      /sa\/cart expired/,
    ],
    [
      "7 the called one's certificate has ended",
      { pay: { identity: await identity(cas.past, 'pay') } },
      'destination-certificate pay-0',
      /sa\/pay expired/,
    ],
    [
      "8 the called one does not believe the caller's root",
      { cart: { identity: believing(await identity(cas.other, 'cart'), roots) } },
      'source-root pay-0',
      /pay-0 does not believe cart-0/,
    ],
    [
      "9 the caller does not believe the called one's root",
      { pay: { identity: believing(await identity(cas.other, 'pay'), roots) } },
      'destination-root cart-0',
      /cart-0 does not believe pay-0/,
    ],
    [
      '10 the called one proves another identity',
      { pay: { identity: await identity(cas.own, 'impostor') } },
      'identity pay-0',
      /sa\/impostor/,
    ],
    [
      "11 the caller's certificate is revoked",
      { cart: { identity: cart }, pay: { identity: believing(await identity(cas.own, 'pay'), roots, revoked) } },
      'revoked cart-0',
      /is revoked/,
    ],
    ["12 the caller's clock is behind", { cart: { aheadMs: -300_000 } }, 'clock cart-0', /cart-0 is 300 s behind/],
    ['13 the mesh port is closed', { endpoint: { meshPort: 15009 } }, 'mesh-port pay-0', /15009.*ECONNREFUSED/],
    ['14 the port is not in the plan', { endpoint: { port: 9999 } }, 'workload-port pay-0', /no port 9999/],
    ["15 the caller's proxy is silent", { cart: { silent: true } }, 'proxy-silent cart-0', /ECONNREFUSED/],
    ['16 no endpoint', { endpoint: { instance: 'another-0' } }, 'no-endpoint pay-0', /not ready/],
  ];
  for (const [what, fault, expected, words] of faults) {
    const { findings } = await checked(cas, fault);
    assert.deepEqual(
      findings.map((f) => `${f.code} ${f.at}`),
      [expected],
      `${what}: ${JSON.stringify(findings)}`,
    );
    assert.match(findings[0]!.message, words, what);
  }
});

test('two faults: both are found', async (t) => {
  const cas = await authorities(t);
  const { findings } = await checked(cas, {
    tls: ClientTls.DISABLE,
    pay: { identity: await identity(cas.past, 'pay') },
  });
  assert.deepEqual(
    findings.map((f) => f.code),
    ['client-tls-rule', 'destination-certificate'],
  );
});
