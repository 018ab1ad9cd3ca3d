/** The folder that a proxy has on this machine: its identity, its last plan, and what it is told at its start. */
import { chmodSync, chownSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { confinedArgv, PROXY_UID, type RunAs, unprivilegedArgv } from '@weft/capture';
import { type Identity, inTime, isUnder, readIdentity } from '@weft/identity';
import type { HostContext } from './host-context.ts';
import type { ProbeAction, ProbeSpec, ProcessSpec } from './specs.ts';

export interface ProxyFolders {
  readonly dir: string;
  readonly identity: string;
  readonly snapshot: string;
  /** What the application got as its own, by the Workload API. */
  readonly application: string;
}

export function makeProxyFolders(h: HostContext, name: string): ProxyFolders {
  const dir = h.paths.workload(name);
  const identity = join(dir, 'identity');
  const folders = { dir, identity, snapshot: join(dir, 'snapshot'), application: join(identity, 'application') };
  makeOwnFolder(dir);
  for (const d of Object.values(folders)) {
    mkdirSync(d, { recursive: true, mode: 0o700 });
    chmodSync(d, 0o700);
  }
  return folders;
}

/** The kernel's bound for the path of a Unix socket, with its end. */
const MAX_SOCKET_PATH = 107;

/**
 * Where the application asks for its own identity: in a folder that the proxy may write and the application's group may
 * enter. Undefined where nobody could open it: the path is too long, or this is no Linux.
 */
export function makeWorkloadApi(
  h: HostContext,
  name: string,
  spec: ProcessSpec,
  application: RunAs | undefined,
): string | undefined {
  if (spec.gateway) return undefined;
  const dir = h.paths.workloadApi(name);
  const socket = join(dir, 'spiffe.sock');
  if (process.platform !== 'linux' || Buffer.byteLength(socket) > MAX_SOCKET_PATH) return undefined;
  if (dir !== h.paths.workload(name)) {
    makeOwnFolder(dir);
    if (application) {
      chownSync(dir, proxyUser(h, spec) ?? 0, application.gid);
      chmodSync(dir, 0o710);
    }
  }
  return socket;
}

/**
 * Makes a folder in one that the proxies of all meshes share and must be able to enter. That one goes with the last mesh
 * that uses it, at any moment: to make both in one call would give it this one's mode, and shut everybody out.
 */
export function makeOwnFolder(dir: string): string {
  const shared = dirname(dir);
  for (let tries = 0; ; tries++) {
    mkdirSync(shared, { recursive: true, mode: 0o711 });
    try {
      if (process.getuid?.() === 0) chmodSync(shared, 0o711);
      mkdirSync(dir, { mode: 0o700 });
      return dir;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return dir;
      if (code !== 'ENOENT' || tries === 10) throw error;
    }
  }
}

/** Whether a proxy left a certificate here by which it can ask for the next one itself. */
export function certified(dir: string): boolean {
  try {
    const identity = readIdentity(dir);
    return identity !== undefined && inTime(identity, Date.now());
  } catch {
    return false;
  }
}

export interface ProxyFacts {
  readonly name: string;
  readonly address: string;
  readonly address6: string | undefined;
  readonly spec: ProcessSpec;
  readonly token: string | undefined;
  readonly rootPem: string;
  /** When the application counts as ready. */
  readonly probe: ProbeSpec;
  /** What explicit-mode clients prove themselves with. */
  readonly secret: string;
  /** Path of the Workload API's socket. */
  readonly api: string | undefined;
  /** Who the application runs as; undefined: as this process does. */
  readonly application: RunAs | undefined;
}

function tokenPath(files: ProxyFolders): string {
  return join(files.dir, 'token');
}

/** Leaves a token for a proxy whose certificate has ended while it ran. */
export function writeToken(h: HostContext, files: ProxyFolders, spec: ProcessSpec, token: string): void {
  handOver(h, spec, tokenPath(files), token);
}

/** Writes a file that the proxy's own user alone may read. Returns the path. */
export function handOver(h: HostContext, spec: ProcessSpec, path: string, text: string): string {
  const made = `${path}.new`;
  writeFileSync(made, text, { mode: 0o600 });
  const uid = proxyUser(h, spec);
  if (uid !== undefined) chownSync(made, uid, uid);
  renameSync(made, path); // Never half of one.
  return path;
}

/** The certificate that a proxy has stored, read again where it changed. */
export class StoredCertificate {
  readonly #path: string;
  readonly #dir: string;
  #seenMs = 0;
  #identity: Identity | undefined;

  constructor(files: ProxyFolders) {
    this.#dir = files.identity;
    this.#path = join(files.identity, 'identity.json');
  }

  /** Whether it counts at this moment; false where there is none that can be read. */
  counts(wallMs: number): boolean {
    try {
      const { mtimeMs } = statSync(this.#path);
      if (mtimeMs !== this.#seenMs) {
        this.#identity = readIdentity(this.#dir);
        this.#seenMs = mtimeMs;
      }
    } catch {
      this.#identity = undefined;
    }
    return this.#identity !== undefined && inTime(this.#identity, wallMs);
  }

  /** False where what counted at the last look is by a root that is none of these: nobody believes it any more. */
  believedBy(rootPem: string): boolean {
    return this.#identity === undefined || isUnder(this.#identity, rootPem);
  }
}

/** What the proxy asks of the application in its prober's place; nothing where that runs a program, or asks nothing. */
function probeInPlace(action: ProbeAction, timeoutMs: number): object {
  switch (action.type) {
    case 'http': {
      const { path, port, https, headers } = action;
      return { readyz: { httpGet: { path, port, ...(https && { scheme: 'HTTPS' }), headers }, timeoutMs } };
    }
    case 'tcp':
      return action.port > 0 ? { readyz: { tcpSocket: { port: action.port }, timeoutMs } } : {};
    case 'grpc':
      return { readyz: { grpc: { port: action.port, service: action.service }, timeoutMs } };
    case 'exec':
      return {};
  }
}

/** Writes what a proxy reads at its start (`WEFT_BOOTSTRAP`), for its own user alone. Returns the path. */
export function writeBootstrap(h: HostContext, files: ProxyFolders, p: ProxyFacts): string {
  const transparent = h.capture === 'transparent';
  const all = !transparent ? p.address : p.address6 ? '::' : '0.0.0.0';
  const uid = proxyUser(h, p.spec);
  const own = transparent ? '127.0.0.1' : p.address;
  const { probe, token } = p;
  const timeoutMs = probe.timeoutMs;
  const probes = p.spec.gateway ? {} : probeInPlace(probe.action, timeoutMs);
  const bootstrap = {
    mesh: h.mesh,
    instance: p.name,
    trustDomain: h.trustDomain,
    spiffeId: `spiffe://${h.trustDomain}/ns/${p.spec.namespace}/sa/${p.spec.serviceAccount}`,
    token,
    tokenFile: tokenPath(files),
    rootPem: p.rootPem,
    controlAddress: h.controlAddress,
    identityDir: files.identity,
    snapshotDir: files.snapshot,
    capture: h.capture,
    address: p.address,
    address6: p.address6,
    entrance: h.entrance?.at,
    bind: {
      ...(p.spec.gateway
        ? {}
        : {
            outbound: { host: own, port: 15001 },
            inbound: transparent ? { host: all, port: 15006 } : undefined,
            dns: { host: own, port: 15053 },
          }),
      mesh: { host: all, port: 15008 },
      admin: { host: own, port: 15000 },
      probes: { host: all, port: 15020 },
      health: { host: all, port: 15021 },
      metrics: { host: all, port: 15090 },
    },
    proxySecret: transparent || p.spec.gateway ? undefined : p.secret,
    workloadApi: p.api && {
      socket: p.api,
      uids: [p.application?.uid ?? process.getuid?.() ?? 0],
      ownNetwork: transparent,
    },
    probes,
    uid,
    gid: uid,
  };
  giveFolders(h, files, p.spec);
  return handOver(h, p.spec, join(files.dir, 'bootstrap.json'), JSON.stringify(bootstrap));
}

/** Makes the proxy's own user the owner of its folders. */
export function giveFolders(h: HostContext, files: ProxyFolders, spec: ProcessSpec): void {
  const uid = proxyUser(h, spec);
  if (uid !== undefined) for (const dir of Object.values(files)) chownSync(dir, uid, uid);
}

/** Who a proxy becomes; undefined: who it is already. */
export function proxyUser(h: HostContext, spec: ProcessSpec): number | undefined {
  return process.getuid?.() === 0 && !staysRoot(h, spec) ? PROXY_UID : undefined;
}

/** In the machine's own network ports below 1024 are root's. Which ones a gateway serves its plan will say. */
function staysRoot(h: HostContext, spec: ProcessSpec): boolean {
  return h.capture === 'explicit' && (spec.gateway || spec.ports.some((p) => p.number < 1024));
}

/** What to put before a proxy's command: all that it does not need is taken from it. */
export function proxyPrefix(h: HostContext, files: ProxyFolders, spec: ProcessSpec, api: string | undefined): string[] {
  if (!h.setpriv) return [];
  if (process.getuid?.() !== 0) return [...unprivilegedArgv(), '--'];
  const shared = api && dirname(api);
  return confinedArgv({ own: files.dir, shared, codeCache: h.paths.codeCache, lowPorts: staysRoot(h, spec) });
}
