/**
 * The local API, for the supervisor and the CLI: HTTP with JSON on a Unix socket that only its owner may open.
 *
 *     PUT    /v1/instances/{name}[?wait=ms]  body Instance → {settled}; wait: until all proxies hold the new endpoints
 *     DELETE /v1/instances/{name}[?wait=ms]  → {settled}
 *     GET    /v1/instances                   → {instances}, each with `services`: hosts of those that select it
 *     POST   /v1/drain/{name}[?wait=ms]      the instance takes nothing new (wait defaults to 1000) → {settled}
 *     POST   /v1/tokens                      {instance} → {token, identity, rootPem, trustDomain}
 *     POST   /v1/host-tokens                 {host, namespace, group} → {token, identity, rootPem, trustDomain, mesh}
 *     GET    /v1/hosts                       → {hosts: HostStatus[]} (hosts/registry.ts)
 *     GET    /v1/networks                    → {networks: {name: {host, port}}}, where the entrances of machines are
 *     GET    /v1/root                        → {rootPem, trustDomain}
 *     GET    /v1/status                      → {epoch, proxies: [{instance, workload, namespace, status, epoch, ageMs, error}]}
 *     GET    /v1/edges[?window=ms|all]       → {edges: EdgeSummary[]}; NaN is null
 *     GET    /v1/calls?since=wall ms         → {calls: CallSum[], dropped} (audit/traffic.ts)
 *     GET    /v1/audit?since=wall ms         → AuditReport (audit/report.ts)
 *     GET    /v1/mtls?since=ms[&namespace=NS] → MtlsState (api/mtls.ts): modes of workloads, and who calls them how
 *     GET    /v1/epoch                       → {epoch, sinceMs, refused}; sinceMs in wall time
 *     GET    /v1/problems                    → {epoch, refused, problems}; refused: the files are not what runs
 *     GET    /v1/analysis                    → {epoch, refused, findings}: what `weft analyze` says of the files that run
 *     GET    /v1/vips                        → {vips: {host: [address]}}
 *     GET    /v1/plan/{name}                 → {epoch, parts, endpoints, references}, what its proxy should hold
 *     GET    /v1/ca                          → CaStatus (ca/status.ts)
 *     POST   /v1/ca-rotate                   {step, from?: folder} → CaStatus; step: distribute, issue, retire or back
 *     POST   /v1/ca-revoke, /v1/ca-restore   {what: serial or SPIFFE id} → CaStatus
 *     POST   /v1/ca-workload-api             {step: use, leave or forget; socket, of use} → CaStatus
 *     POST   /v1/ca-federate                 {trustDomain, rootPem; empty: no longer} → CaStatus
 *
 * Each request carries `authorization: Bearer` with the token of the file `api-token` beside the socket (`localToken`).
 * Errors: {code, message} with 400, 401, 403, 404, 405 or 500.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { create, type JsonObject, toJson } from '@bufbuild/protobuf';
import { type Clock, type Logger, WeftError } from '@weft/base';
import { type Authority, localToken, refuseLocal } from '@weft/identity';
import { compile, compileEndpoints, type Instance, serviceHost, servicesSelecting } from '@weft/model';
import { EndpointsSchema, PartSchema, ReferencesSchema, withoutKeys } from '@weft/plan';
import type { ChangeLog } from '../audit/changes.ts';
import { auditReport } from '../audit/report.ts';
import type { Traffic } from '../audit/traffic.ts';
import { caStatus } from '../ca/status.ts';
import type { Tokens } from '../ca/tokens.ts';
import type { MeshTrust } from '../ca/trust.ts';
import type { WorkloadApiSource } from '../ca/workload-api.ts';
import type { RateShares } from '../collect/rate-shares.ts';
import type { Collector } from '../collect/service.ts';
import type { Hosts } from '../hosts/registry.ts';
import type { Mesh } from '../mesh.ts';
import type { Pusher } from '../push/pusher.ts';
import { parseInstance } from './instance.ts';
import { mtlsState } from './mtls.ts';

const MAX_BODY_BYTES = 1024 * 1024;
const MAX_WAIT_MS = 30_000;

export interface ApiOptions {
  socket: string;
  mesh: Mesh;
  pusher: Pusher;
  tokens: Tokens;
  hosts: Hosts;
  collector: Collector;
  rates: RateShares;
  traffic: Traffic;
  changes: ChangeLog;
  clock: Clock;
  authority: Authority;
  trust: MeshTrust;
  workloadApi: WorkloadApiSource;
  logger: Logger;
}

class NotFound extends WeftError {}

/** Opens the API; throws `control/already-running` where another control plane answers on the socket. */
export async function startApi(options: ApiOptions): Promise<{ close(): Promise<void> }> {
  const { socket, logger } = options;
  if (await answers(socket)) {
    throw new WeftError(
      'control/already-running',
      `another control plane answers on ${socket}: stop it first (weft down), or give this mesh another name`,
    );
  }
  rmSync(socket, { force: true });
  const token = localToken(socket);
  const server = createServer((request, response) => {
    const refused = refuseLocal(request.headers, token);
    if (refused) {
      request.resume();
      send(response, refused.status, { code: 'control/refused', message: refused.message });
      return;
    }
    handle(options, request)
      .then((body) => send(response, 200, body))
      .catch((error) => {
        if (error instanceof NotFound) send(response, 404, { code: error.code, message: error.message });
        else if (error instanceof WeftError) send(response, 400, { code: error.code, message: error.message });
        else {
          logger.error({ error: String(error) }, 'a request of the local API failed');
          send(response, 500, {
            code: 'control/internal',
            message: 'the request failed; the log of the control plane says why',
          });
        }
      });
  });
  server.on('clientError', (_error, s) => s.destroy());
  await listen(server, socket);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.on('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
  });
}

function listen(server: Server, socket: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new WeftError('control/socket', `${socket} cannot be opened: ${cause.message}`, { cause })),
    );
    // Narrow from the first moment on; chmod alone would leave one.
    const mask = process.umask(0o177);
    try {
      server.listen(socket, () => {
        chmodSync(socket, 0o600);
        resolve();
      });
    } finally {
      process.umask(mask);
    }
  });
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.destroyed) return;
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

async function handle(o: ApiOptions, request: IncomingMessage): Promise<unknown> {
  const url = new URL(request.url ?? '/', 'http://local');
  const [, version, what, encoded, ...rest] = url.pathname.split('/');
  const missing = new NotFound('control/not-found', `${request.method} ${url.pathname} is not part of the API`);
  if (version !== 'v1' || rest.length > 0) throw missing;
  const name = encoded === undefined ? '' : decode(encoded);
  const { mesh } = o;
  switch (`${request.method} ${what}${name ? '/*' : ''}`) {
    case 'PUT instances/*':
      mesh.putInstance(parseInstance(await readJson(request), name));
      return { settled: await settled(o, url, 0) };
    case 'DELETE instances/*':
      if (!mesh.deleteInstance(name)) throw noInstance(name);
      return { settled: await settled(o, url, 0) };
    case 'POST drain/*':
      mesh.putInstance({ ...instanceOf(mesh, name), draining: true });
      return { settled: await settled(o, url, 1000) };
    case 'GET instances':
      return { instances: mesh.instances().map((i) => ({ ...i, services: hostsOf(mesh, i) })) };
    case 'POST tokens': {
      const body = (await readJson(request)) as { instance?: unknown } | null;
      if (typeof body?.instance !== 'string')
        throw new WeftError('control/bad-request', 'instance must be the name of a registered instance');
      const identity = mesh.identityOf(instanceOf(mesh, body.instance));
      const { trustDomain } = o.authority;
      const { rootPem } = o.trust.current;
      return { token: o.tokens.create(body.instance, identity), identity, rootPem, trustDomain };
    }
    case 'POST host-tokens': {
      const { host, namespace, group } = ((await readJson(request)) ?? {}) as Record<string, unknown>;
      const { subject, identity } = o.hosts.add(String(host), String(namespace), String(group));
      const { trustDomain } = o.authority;
      const { rootPem } = o.trust.current;
      return { token: o.tokens.create(subject, identity), identity, rootPem, trustDomain, mesh: mesh.runtime().mesh };
    }
    case 'GET hosts':
      return { hosts: o.hosts.status() };
    case 'GET networks':
      return { networks: o.hosts.networks() };
    case 'GET root':
      return { rootPem: o.trust.current.rootPem, trustDomain: o.authority.trustDomain };
    case 'GET status':
      return { epoch: mesh.epoch, proxies: o.pusher.status() };
    case 'GET edges': {
      const window = url.searchParams.get('window') ?? '10000';
      if (window !== 'all' && !/^\d{1,6}$/.test(window))
        throw new WeftError('control/bad-request', 'window must be milliseconds, or all');
      return { edges: o.collector.edges(window === 'all' ? 'all' : Number(window)) };
    }
    case 'GET rates':
      return { limits: o.rates.list() };
    case 'GET calls': {
      const { calls, dropped } = o.traffic.since(sinceOf(url));
      return { calls, dropped };
    }
    case 'GET audit': {
      const sinceMs = sinceOf(url);
      return auditReport({
        nowMs: o.clock.wall(),
        sinceMs,
        epoch: mesh.epoch,
        model: mesh.model,
        instances: mesh.instances(),
        traffic: o.traffic.since(sinceMs),
        certificates: o.pusher.certificates(),
        rootNotAfterMs: o.authority.rootNotAfterMs,
        changes: o.changes.since(sinceMs),
      });
    }
    case 'GET mtls':
      return mtlsState(mesh, o.traffic, sinceOf(url), url.searchParams.get('namespace') ?? '');
    case 'GET epoch':
      return { epoch: mesh.epoch, sinceMs: mesh.epochAtMs, refused: mesh.refused };
    case 'GET problems':
      return { epoch: mesh.epoch, refused: mesh.refused, problems: mesh.problems };
    case 'GET analysis':
      return { epoch: mesh.epoch, refused: mesh.refused, findings: mesh.analysis() };
    case 'GET vips':
      return { vips: Object.fromEntries(mesh.vips) };
    case 'GET plan/*':
      return plan(mesh, name);
    case 'GET ca':
      return caStatus(o.authority, o.trust, o.pusher, o.hosts);
    case 'POST ca-rotate':
    case 'POST ca-revoke':
    case 'POST ca-restore':
    case 'POST ca-federate':
    case 'POST ca-workload-api':
      await changeCa(o, what, (await readJson(request)) as Record<string, unknown> | null);
      return caStatus(o.authority, o.trust, o.pusher, o.hosts);
    default:
      throw missing;
  }
}

async function changeCa(o: ApiOptions, what: string, body: Record<string, unknown> | null): Promise<void> {
  const text = (name: string): string => {
    const value = body?.[name];
    if (typeof value !== 'string') throw new WeftError('control/bad-request', `${name} must be a text`);
    return value;
  };
  switch (what) {
    case 'ca-revoke':
      o.trust.revoke(text('what'));
      break;
    case 'ca-restore':
      o.trust.restore(text('what'));
      break;
    case 'ca-federate':
      o.trust.federate(text('trustDomain'), text('rootPem'));
      break;
    case 'ca-workload-api':
      if (text('step') === 'use') await o.workloadApi.use(text('socket'));
      else if (text('step') === 'leave') o.workloadApi.leave();
      else o.workloadApi.forget();
      break;
    default: {
      const step = text('step');
      if (step !== 'distribute' && step !== 'issue' && step !== 'retire' && step !== 'back')
        throw new WeftError('control/bad-request', 'step must be distribute, issue, retire or back');
      await o.authority.rotate(step, body?.from === undefined ? undefined : text('from'));
    }
  }
  const { rootPem: _pem, ...detail } = body ?? {};
  o.changes.authority(o.mesh.epoch, what, detail);
  o.logger.warn(
    { what, phase: o.authority.phase, body: what === 'ca-federate' ? undefined : body },
    'the CA was changed',
  );
}

function hostsOf({ model }: Mesh, instance: Instance): string[] {
  return model ? servicesSelecting(model, instance).map((s) => serviceHost(s, model.domain)) : [];
}

/** `since` of a query, in wall time; without, all that is kept. */
function sinceOf(url: URL): number {
  const text = url.searchParams.get('since') ?? '0';
  if (!/^\d{1,15}$/.test(text)) throw new WeftError('control/bad-request', 'since must be milliseconds since 1970');
  return Number(text);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new WeftError('control/bad-request', `${text} is not a name: its percent escapes are broken`);
  }
}

function noInstance(name: string): NotFound {
  return new NotFound('control/no-instance', `no instance ${JSON.stringify(name)} is registered`);
}

function instanceOf(mesh: Mesh, name: string) {
  const instance = mesh.instance(name);
  if (!instance) throw noInstance(name);
  return instance;
}

async function settled(o: ApiOptions, url: URL, fallbackMs: number): Promise<boolean> {
  const text = url.searchParams.get('wait');
  const waitMs = text === null ? fallbackMs : Number(text);
  if (!(waitMs >= 0 && waitMs <= MAX_WAIT_MS))
    throw new WeftError('control/bad-request', `wait must be 0 to ${MAX_WAIT_MS} milliseconds`);
  return waitMs === 0 ? false : o.pusher.settled(waitMs);
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_BODY_BYTES)
      throw new WeftError('control/bad-request', `the body has more than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk as Buffer);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new WeftError('control/bad-request', 'the body must be JSON');
  }
}

function plan(mesh: Mesh, name: string): unknown {
  const instance = instanceOf(mesh, name);
  const { model, epoch } = mesh;
  if (!model)
    throw new WeftError(
      'control/no-epoch',
      'there is no epoch yet: the files were never without errors (see problems)',
    );
  const runtime = mesh.runtime();
  const compiled = compile(model, runtime, instance);
  const parts = new Map<string, JsonObject>();
  for (const [key, part] of compiled.parts) parts.set(key, toJson(PartSchema, withoutKeys(part)) as JsonObject);
  const endpoints = new Map<string, JsonObject>();
  for (const [key, e] of compileEndpoints(model, runtime)) endpoints.set(key, toJson(EndpointsSchema, e) as JsonObject);
  const references = create(ReferencesSchema, { epoch: BigInt(epoch), entries: compiled.references });
  return {
    epoch,
    parts: Object.fromEntries(parts),
    endpoints: Object.fromEntries(endpoints),
    references: toJson(ReferencesSchema, references),
  };
}
