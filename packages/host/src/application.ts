/** What an application of this machine starts with, in a mesh or out of it: its user, its PATH, its environment. */
import { accessSync, chmodSync, constants, mkdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { PROXY_UID, type RunAs } from '@weft/capture';
import type { HostContext } from './host-context.ts';
import type { ProcessSpec, ServiceSpec } from './specs.ts';

const NOBODY: RunAs = { uid: 65534, gid: 65534 };

/** Who applications run as: whoever called sudo, else nobody. An ordinary user's run as that user. */
export function applicationUser(): RunAs | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const uid = Number(process.env.SUDO_UID);
  const gid = Number(process.env.SUDO_GID);
  return Number.isInteger(uid) && uid > 0 && uid !== PROXY_UID && Number.isInteger(gid) && gid > 0
    ? { uid, gid }
    : NOBODY;
}

/** As root, PATH without the folders that an ordinary user cannot enter (root's own), where a program would be found and refused. */
function applicationPath(path: string): string {
  if (process.getuid?.() !== 0) return path;
  const enterable = (folder: string): boolean => {
    for (let d = resolve(folder); ; d = dirname(d)) {
      try {
        if ((statSync(d).mode & 0o001) === 0) return false;
      } catch {
        return false;
      }
      if (d === '/') return true;
    }
  };
  return path
    .split(':')
    .filter((d) => d !== '' && enterable(d))
    .join(':');
}

export function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Whether a program is found as an application would find it. */
export function onPath(program: string, path = applicationPath(process.env.PATH ?? '')): boolean {
  return path.split(':').some((d) => executable(join(d || '.', program)));
}

/** The environment that applications inherit: this process's without what is the mesh's own. */
export function applicationEnvironment(): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [k, v] of Object.entries(process.env)) if (v !== undefined && !k.startsWith('WEFT_')) env[k] = v;
  if (env.PATH) env.PATH = applicationPath(env.PATH);
  return env;
}

/** What all our children have: the mark by which leftovers of a run are known. */
export function ownEnvironment(run: string): Record<string, string> {
  return { ...applicationEnvironment(), WEFT_RUN: run };
}

/**
 * The environment of our own children: their compiled code is kept, which halves the time a proxy takes to start. The
 * folder is ours alone, for what lies in it is run.
 */
export function ownProcessEnvironment(baseEnv: Record<string, string>, codeCache: string): Record<string, string> {
  mkdirSync(codeCache, { recursive: true, mode: 0o700 });
  chmodSync(codeCache, 0o700);
  return { ...baseEnv, NODE_COMPILE_CACHE: codeCache };
}

/** The start of the variables that name a service to applications: `<NAME>_SERVICE_HOST` and `_PORT`. */
export function serviceVariable(service: ServiceSpec): string {
  return service.name.toUpperCase().replaceAll('-', '_');
}

export interface EnvironmentFacts {
  readonly spec: ProcessSpec;
  readonly address: string;
  /** The Workload API's socket; undefined: there is none. */
  readonly api: string | undefined;
  /** Of its proxy in explicit mode, or of what stands in its place. */
  readonly secret: string;
}

/** The environment of an application of a mesh: the supervisor's without what is ours, then the mesh's, then its own. */
export function environmentIn(h: HostContext, of: EnvironmentFacts): Record<string, string> {
  const env: Record<string, string> = { ...h.baseEnv };
  delete env.HOST;
  const port = of.spec.ports[0]?.number;
  if (port !== undefined) env.PORT = String(port);
  delete env.SPIFFE_ENDPOINT_SOCKET;
  if (of.api) env.SPIFFE_ENDPOINT_SOCKET = `unix://${of.api}`;
  if (h.capture === 'explicit') {
    env.HOST = of.address;
    if (of.spec.injected || of.spec.left) {
      const proxy = `http://weft:${of.secret}@${of.address}:15001`;
      Object.assign(env, { HTTP_PROXY: proxy, http_proxy: proxy, NODE_USE_ENV_PROXY: '1' });
      // An exemption inherited from the shell would lead around the mesh.
      delete env.NO_PROXY;
      delete env.no_proxy;
      for (const s of h.services) {
        env[`${serviceVariable(s)}_SERVICE_HOST`] =
          s.namespace === of.spec.namespace ? s.name : `${s.name}.${s.namespace}`;
        if (s.ports[0] !== undefined) env[`${serviceVariable(s)}_SERVICE_PORT`] = String(s.ports[0]);
      }
    }
  }
  for (const e of of.spec.env) env[e.name] = e.value;
  return env;
}
