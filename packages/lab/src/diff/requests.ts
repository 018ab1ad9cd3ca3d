/** Questions that the rules of two meshes suggest: for each caller and each of its services one for each match. */
import { type Authorization, type HttpRoute, type Part, Protocol } from '@weft/plan';
import type { LabMesh, Side } from '../mesh.ts';
import { OUTSIDE } from '../outside.ts';
import type { Question } from '../types.ts';
import { serverHosts } from './gateways.ts';
import { type PlanDiff, workloadsOf } from './plans.ts';
import { type SampleRequest, sampleOfGlob, sampleRequest } from './samples.ts';

/** More questions than this are not asked; how many were left out is said. */
export const MAX_QUESTIONS = 20_000;

const PLAIN: SampleRequest = { method: 'GET', path: '/', headers: [] };

/**
 * What could have another answer in `after`: questions of callers whose own plan of the service, or whose server's plan,
 * is touched by `diff`. Callers and services that one mesh alone has are left out: there is nothing to compare.
 */
export function questionsOf(before: LabMesh, after: LabMesh, diff: PlanDiff): Question[] {
  const out = new Map<string, Question>();
  const meshes = [before, after];
  const add = (q: Question): void => {
    out.set(JSON.stringify(q), q);
  };
  for (const workload of diff.touched.keys()) {
    const sides = meshes.map((mesh) => sideOf(mesh, workload));
    if (sides.some((s) => s === undefined)) continue;
    const [a, b] = sides as [Side, Side];
    if (a.snapshot.gateways.size > 0 || b.snapshot.gateways.size > 0) {
      atGateway(meshes, [a, b], workload, diff, add);
      continue;
    }
    for (const [host, { service }] of b.snapshot.services) {
      const old = a.snapshot.services.get(host);
      if (!old || host.startsWith('*')) continue;
      for (const port of service.ports) {
        const oldPort = old.service.ports.find((p) => p.port === port.port);
        if (!oldPort) continue;
        const routes = [...oldPort.http, ...port.http];
        const tcp = [...oldPort.tcp, ...port.tcp, ...oldPort.tls, ...port.tls];
        const clusters = new Set([...routes, ...tcp].flatMap((r) => r.clusters.map((c) => c.cluster)));
        for (const r of routes) for (const m of r.mirrors) clusters.add(m.cluster);
        const servers = serversOf(meshes, clusters);
        if (!affected(diff, workload, `service/${service.host}`, clusters, servers)) continue;
        const at = { from: workload, to: `${service.host}:${port.port}` };
        if (port.protocol === Protocol.TCP || port.protocol === Protocol.TLS) add({ ...at, tcp: true });
        else for (const sample of samplesFor(meshes, routes, servers)) add({ ...at, ...sample });
      }
    }
  }
  return [...out.values()];
}

function sideOf(mesh: LabMesh, workload: string): Side | undefined {
  const instance = workloadsOf(mesh).get(workload);
  return instance === undefined ? undefined : mesh.side(instance);
}

/** Workloads that some of the clusters lead to, in either mesh. */
function serversOf(meshes: readonly LabMesh[], clusters: ReadonlySet<string>): Set<string> {
  const hosts = new Set([...clusters].map((c) => c.slice(c.lastIndexOf('|') + 1)));
  const out = new Set<string>();
  for (const mesh of meshes)
    for (const set of mesh.endpoints) {
      if (hosts.has(set.host)) for (const e of set.endpoints) out.add(`${e.namespace}/${e.workload}`);
    }
  return out;
}

function affected(
  diff: PlanDiff,
  client: string,
  own: string,
  clusters: ReadonlySet<string>,
  servers: ReadonlySet<string>,
): boolean {
  const parts = diff.touched.get(client)!;
  if (parts.has(own) || parts.has('self')) return true;
  for (const c of clusters) {
    const [, port, , host] = c.split('|');
    if (parts.has(`cluster/${c}`) || parts.has(`endpoints/${host}:${port}`)) return true;
  }
  // What a server takes is its own plan's; a gateway on the way sends on by other parts of its own.
  for (const s of servers) for (const part of diff.touched.get(s) ?? []) if (!part.startsWith('service/')) return true;
  return false;
}

/** One plain request, one for each match of the routes, one for each operation that a policy of a server names. */
function samplesFor(
  meshes: readonly LabMesh[],
  routes: readonly HttpRoute[],
  servers: ReadonlySet<string>,
  host?: string,
): Omit<Question, 'from' | 'to'>[] {
  const named = host === undefined ? PLAIN : { ...PLAIN, headers: [['host', host] as const] };
  const out: Omit<Question, 'from' | 'to'>[] = [named];
  for (const route of routes) for (const m of route.match) out.push(sampleRequest(m, host));
  for (const server of servers) {
    for (const mesh of meshes) {
      for (const part of sideOf(mesh, server)?.parts ?? [])
        if (part.kind.case === 'authorization') out.push(...policySamples(part.kind.value, named.headers));
    }
  }
  return out;
}

/** Paths and methods that policies speak of; of callers with a token where a policy wants one. */
function policySamples(
  { policies, tables }: Authorization,
  headers: SampleRequest['headers'],
): Omit<Question, 'from' | 'to'>[] {
  const out: Omit<Question, 'from' | 'to'>[] = [];
  for (const rule of policies.flatMap((p) => p.rules)) {
    const wanted = rule.when.flatMap((w) => {
      const name = /^request\.headers\[(.+)\]$/.exec(w.key)?.[1];
      const value = w.values[0] ?? w.notValues[0];
      return name && value !== undefined ? [[name.toLowerCase(), sampleOfGlob(value)] as const] : [];
    });
    const principal = rule.from.flatMap((f) => f.requestPrincipals).find((p) => p.includes('/'));
    const slash = principal?.lastIndexOf('/') ?? 0;
    const token = principal
      ? {
          token: { issuer: sampleOfGlob(principal.slice(0, slash)), subject: sampleOfGlob(principal.slice(slash + 1)) },
        }
      : {};
    const asked = rule.to.length > 0 ? rule.to : [undefined];
    for (const to of asked) {
      const paths = [...(to?.paths ?? []), ...(to?.notPaths ?? [])].map(sampleOfGlob);
      const methods = [...(to?.methods ?? []), ...(to?.notMethods ?? [])].map((m) =>
        m === '*' ? 'GET' : sampleOfGlob(m),
      );
      const all = [...headers, ...wanted];
      for (const path of paths.length > 0 ? paths : ['/'])
        for (const method of methods.length > 0 ? methods : ['GET'])
          out.push({ method, path: path.startsWith('/') ? path : `/${path}`, headers: all, ...token });
    }
  }
  for (const m of tables.flatMap((t) => t.rows).flatMap((r) => r.http)) {
    const sample = sampleRequest(m);
    out.push({ ...sample, headers: [...headers, ...sample.headers] });
  }
  return out;
}

/** Visitors of a gateway: each host of each of its ports. */
function atGateway(
  meshes: readonly LabMesh[],
  [a, b]: readonly [Side, Side],
  workload: string,
  diff: PlanDiff,
  add: (q: Question) => void,
): void {
  const parts = diff.touched.get(workload)!;
  const own = [...parts].some((p) => !p.startsWith('cluster/') && !p.startsWith('endpoints/'));
  for (const port of b.snapshot.gateways.keys()) {
    const listeners = [a, b].map((s) => listenerOf(s.parts, port));
    if (listeners.some((l) => l === undefined)) continue;
    const at = { from: OUTSIDE, to: `${workload}:${port}` };
    for (const { server, host, routes } of listeners.flatMap((l) => serverHosts(l!))) {
      const clusters = new Set(routes.flatMap((r) => [...r.clusters, ...r.mirrors].map((c) => c.cluster)));
      const servers = serversOf(meshes, clusters);
      servers.add(workload);
      if (!own && !affected(diff, workload, '', clusters, servers)) continue;
      const named = host.replace(/^\*/, 'any');
      const secure = server.tls || server.protocol === Protocol.TLS ? { sni: named } : {};
      if (server.protocol === Protocol.TCP || server.protocol === Protocol.TLS) add({ ...at, ...secure, tcp: true });
      else for (const sample of samplesFor(meshes, routes, servers, named)) add({ ...at, ...sample, ...secure });
    }
  }
}

function listenerOf(parts: readonly Part[], port: number) {
  for (const { kind } of parts) if (kind.case === 'gateway' && kind.value.port === port) return kind.value;
  return undefined;
}
