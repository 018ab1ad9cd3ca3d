/**
 * Simulated proxies: real certificates, real TLS and delta ADS, no data plane. A process of its own; the parent speaks to
 * it over IPC and hears when all of them hold what it waits for.
 */

import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { fromBinary } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { assembleIdentity, controlTlsOptions, createKeyAndCsr } from '@weft/identity';
import { CertificateService, ENDPOINTS_TYPE, PART_TYPE, REFERENCES_TYPE, ReferencesSchema } from '@weft/plan';
import { AdsClient, createChannel } from '@weft/xds';

export interface ClientSpec {
  instance: string;
  namespace: string;
  token: string;
  /** Names of the endpoints that it asks for beside everything. */
  uses: string[];
}
export type ToClients =
  | { do: 'connect'; port: number; rootPem: string; clients: ClientSpec[] }
  /** Answered once every client has had an update of that name since then, or that epoch. */
  | { do: 'await'; resource?: string; epoch?: number };
export interface FromClients {
  done: true;
  /** When the last client had it, epoch ms with fractions. */
  atMs: number;
  /** When the last of those had it that asked for it by name; 0: nobody did. */
  usersAtMs: number;
  users: number;
  /** Bytes that came in over all connections since the last answer, TLS included. */
  bytes: number;
  /** Plan parts among what came since then. */
  parts: number;
}

const CONCURRENCY = 16;
const TYPES = [REFERENCES_TYPE, PART_TYPE, ENDPOINTS_TYPE];
const sockets: Socket[] = [];
subscribe('net.client.socket', (message) => {
  sockets.push((message as { socket: Socket }).socket);
});
const received = (): number => sockets.reduce((sum, s) => sum + s.bytesRead, 0);

let clients = 0;
let bytesBefore = 0;
let parts = 0;
let wanted: ToClients & { do: 'await' } = { do: 'await' };
let missing = new Set<number>();
/** By the name of endpoints, who asks for them. */
const users = new Map<string, Set<number>>();
let usersAtMs = 0;
const now = (): number => performance.timeOrigin + performance.now();

function tell(atMs: number): void {
  const bytes = received();
  const asked = users.get(wanted.resource ?? '')?.size ?? 0;
  const answer: FromClients = { done: true, atMs, usersAtMs, users: asked, bytes: bytes - bytesBefore, parts };
  process.send?.(answer);
  bytesBefore = bytes;
  parts = 0;
  usersAtMs = 0;
}

function has(n: number): void {
  if (!missing.delete(n)) return;
  const atMs = now();
  if (users.get(wanted.resource ?? '')?.has(n)) usersAtMs = atMs;
  if (missing.size === 0) {
    // The ACKs leave, and what else was on its way arrives, before the bytes are counted.
    setTimeout(() => tell(atMs), 500);
  }
}

type Versions = ReadonlyMap<string, ReadonlyMap<string, string>>;
/**
 * By namespace, what the first proxy there was sent. The others say that they have it, as proxies do when a control plane
 * comes back: proxies of one namespace get the same but for what is their own. Otherwise most of a run is 2000 first plans.
 */
const known = new Map<string, Promise<Versions>>();

async function start(n: number, spec: ClientSpec, port: number, rootPem: string): Promise<void> {
  const namespace = spec.namespace;
  const before = known.get(namespace);
  const begun = begin(n, spec, port, rootPem, await before);
  if (!before) known.set(namespace, begun);
  await begun;
}

async function begin(
  n: number,
  spec: ClientSpec,
  port: number,
  rootPem: string,
  initial: Versions | undefined,
): Promise<Versions> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const tls = { rootPem, trustDomain: 'cluster.local' };
  const first = createChannel({ host: '127.0.0.1', port, tls: controlTlsOptions(tls) });
  const signed = await createClient(CertificateService, first.transport).sign({ csrPem, token: spec.token });
  first.close();
  const identity = assembleIdentity({ keyPem, chainPem: signed.chainPem, rootPem });
  return new Promise((resolve) => {
    const held = new Set<string>();
    const client = new AdsClient({
      connect: () => ({ host: '127.0.0.1', port, tls: controlTlsOptions({ ...tls, identity }) }),
      node: { id: spec.instance, cluster: '' },
      types: TYPES,
      initial,
      // On a machine that runs all of them beside the control plane, silence says nothing.
      pings: { everyMs: 15_000, timeoutMs: 15_000 },
      onUpdate(type, change) {
        if (type === PART_TYPE) parts += change.updated.length;
        for (const { name, bytes } of change.updated) {
          if (name === wanted.resource) has(n);
          else if (name === 'own' && wanted.epoch !== undefined && type === REFERENCES_TYPE) {
            if (Number(fromBinary(ReferencesSchema, bytes).epoch) >= wanted.epoch) has(n);
          }
        }
        held.add(type);
        // What this update brings is noted after it.
        if (held.size === TYPES.length)
          setImmediate(() => resolve(initial ?? new Map(TYPES.map((t) => [t, new Map(client.versions(t))]))));
      },
    });
    client.name(ENDPOINTS_TYPE, spec.uses);
    for (const name of spec.uses) {
      if (!users.has(name)) users.set(name, new Set());
      users.get(name)?.add(n);
    }
    client.start();
  });
}

async function connect(m: ToClients & { do: 'connect' }): Promise<void> {
  const queue = [...m.clients.entries()];
  clients = queue.length;
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) await start(next[0], next[1], m.port, m.rootPem);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  tell(now());
}

process.on('message', (m: ToClients) => {
  if (m.do === 'connect') {
    void connect(m).catch((error) => {
      process.stderr.write(`bench: a simulated proxy failed: ${String(error)}\n`);
      process.exit(1);
    });
  } else {
    wanted = m;
    missing = new Set(Array.from({ length: clients }, (_, i) => i));
  }
});
process.on('disconnect', () => process.exit(0));
