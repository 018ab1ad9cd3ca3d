/**
 * Linkerd's policy of a workload's ports as a table: a Server closes its port, AuthorizationPolicies open it again, for the
 * whole Server or for an HTTPRoute or GRPCRoute of it. Of routes the most specific that matches counts; what matches none is refused.
 */
import { create } from '@bufbuild/protobuf';
import {
  type AuthorizationRow,
  AuthorizationRowSchema,
  type AuthorizationSource,
  AuthorizationSourceSchema,
  type AuthorizationTable,
  AuthorizationTableSchema,
} from '@weft/plan';
import { labelsMatch } from './hosts.ts';
import type { RefTable } from './refs.ts';
import { httpMatch } from './route-match.ts';
import type { Model } from './types/model.ts';
import type { ServerModel } from './types/rate-limit.ts';
import type { Resource } from './types/resource.ts';
import type { HttpMatchModel } from './types/route.ts';
import type { Instance } from './types/runtime.ts';

export type AccessPolicyName =
  | 'all-unauthenticated'
  | 'all-authenticated'
  | 'cluster-authenticated'
  | 'cluster-unauthenticated'
  | 'deny'
  | 'audit';

export const ACCESS_POLICIES: readonly AccessPolicyName[] = [
  ...(['all-unauthenticated', 'all-authenticated', 'cluster-authenticated', 'cluster-unauthenticated'] as const),
  ...(['deny', 'audit'] as const),
];

/** Of a Process or a Namespace: what holds for ports that no Server selects. */
export const DEFAULT_INBOUND_POLICY = 'config.linkerd.io/default-inbound-policy';

/** The Gateway API has HTTPRoutes too, beside Linkerd's own: another kind, so perhaps of the same name. */
export type InboundRouteKind = 'HTTPRoute.policy.linkerd.io' | 'HTTPRoute' | 'GRPCRoute';
export type LinkerdTargetKind = 'Server' | 'Namespace' | InboundRouteKind;

/** `policy.linkerd.io AuthorizationPolicy`. All of its authentications must hold; none: anybody. */
export interface LinkerdAuthorizationModel extends Resource {
  /** Of its own namespace. */
  readonly target: { readonly kind: LinkerdTargetKind; readonly name: string };
  readonly authentications: readonly {
    readonly field: string;
    readonly kind: 'MeshTLSAuthentication' | 'NetworkAuthentication' | 'ServiceAccount';
    readonly namespace: string;
    readonly name: string;
  }[];
}

export interface MeshTlsAuthenticationModel extends Resource {
  /** Principals and `prefix*` of them; one that begins with `/` is of the mesh's own trust domain. */
  readonly principals: readonly string[];
}

export interface NetworkAuthenticationModel extends Resource {
  readonly networks: readonly { readonly cidr: string; readonly except: readonly string[] }[];
}

/** An HTTPRoute or GRPCRoute of Servers. */
export interface InboundRouteModel extends Resource {
  readonly kind: InboundRouteKind;
  readonly servers: readonly { readonly field: string; readonly name: string }[];
  readonly hostnames: readonly string[];
  readonly matches: readonly {
    readonly field: string;
    /** As those of the Gateway API: the greater first. */
    readonly rank: readonly number[];
    /** OR. */
    readonly match: readonly HttpMatchModel[];
  }[];
}

/** What makes a table, of an instance or of a Process. */
export type TableWorkload = Pick<Instance, 'namespace' | 'labels' | 'ports'> & { readonly workload: string };

/** What is inside of the mesh's networks, where a policy says `cluster`: the private ranges, and loopback for meshes on it. */
const CLUSTER_NETWORKS = [
  ...['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.168.0.0/16', '127.0.0.0/8'],
  ...['fd00::/8', '::1/128'],
];

export function linkerdTables(
  model: Model,
  workload: TableWorkload,
  trustDomain: string,
  refs: RefTable,
): AuthorizationTable[] {
  const servers = serversOf(model, workload);
  const tables = [...servers].map(([port, server]) => serverTable(model, server, port, trustDomain, refs));
  const fallback = defaultPolicy(model, workload);
  if (fallback && fallback.policy !== 'all-unauthenticated') {
    const { resource, policy } = fallback;
    const ref = refs.use(resource, 'metadata.annotations');
    tables.push(
      create(AuthorizationTableSchema, {
        ...{ ref, name: resource.name, namespace: workload.namespace, notPorts: [...servers.keys()] },
        rows: accessRows(policy, ref, labelOf(resource), trustDomain),
      }),
    );
  }
  return tables;
}

/** By port; of several Servers with one port the first in file order counts. */
export function serversOf(model: Model, workload: TableWorkload): Map<number, ServerModel> {
  const found = new Map<number, ServerModel>();
  for (const server of model.servers) {
    const port = serverPort(server, workload);
    if (port !== undefined && !found.has(port)) found.set(port, server);
  }
  return found;
}

/** The port of a workload that a Server means; undefined where it does not select the workload. */
export function serverPort(server: ServerModel, workload: TableWorkload): number | undefined {
  if (server.namespace !== workload.namespace || !labelsMatch(server.selector, workload.labels)) return undefined;
  return typeof server.port === 'number' ? server.port : workload.ports.find((p) => p.name === server.port)?.number;
}

function defaultPolicy(
  model: Model,
  { namespace, workload }: TableWorkload,
): { resource: Resource; policy: AccessPolicyName } | undefined {
  const process = model.processes.find((p) => p.namespace === namespace && p.name === workload);
  for (const resource of [process, model.namespaces.find((n) => n.name === namespace)]) {
    const policy = resource?.annotations[DEFAULT_INBOUND_POLICY] as AccessPolicyName | undefined;
    if (resource && policy && ACCESS_POLICIES.includes(policy)) return { resource, policy };
  }
  return undefined;
}

function serverTable(
  model: Model,
  server: ServerModel,
  port: number,
  trustDomain: string,
  refs: RefTable,
): AuthorizationTable {
  const mine = model.linkerdAuthorizations.filter((p) => p.namespace === server.namespace);
  const rowOf = (p: LinkerdAuthorizationModel): AuthorizationRow =>
    create(AuthorizationRowSchema, {
      ...{ ref: refs.use(p, 'spec'), label: labelOf(p), allow: true },
      from: sourcesOf(model, p, trustDomain),
    });
  const whole = mine
    .filter((p) => p.target.kind === 'Namespace' || (p.target.kind === 'Server' && p.target.name === server.name))
    .map(rowOf);
  const access = server.accessPolicy === 'deny' ? 'spec' : 'spec.accessPolicy';
  whole.push(...accessRows(server.accessPolicy, refs.use(server, access), labelOf(server), trustDomain));
  const ref = refs.use(server, 'spec');
  const table = { ref, name: server.name, namespace: server.namespace, ports: [port] };
  const routes = server.opaque
    ? []
    : model.inboundRoutes.filter(
        (r) => r.namespace === server.namespace && r.servers.some((s) => s.name === server.name),
      );
  if (routes.length === 0) return create(AuthorizationTableSchema, { ...table, rows: whole });

  const matches = routes.flatMap((route) => route.matches.map((m) => ({ route, ...m })));
  matches.sort((a, b) => compareRanks(a.rank, b.rank));
  const rows: AuthorizationRow[] = [];
  for (const { route, field, match } of matches) {
    const http = match.map((m) => httpMatch(m, route, refs));
    const of = mine.filter((p) => isTarget(p, route)).map(rowOf);
    const end = create(AuthorizationRowSchema, { ref: refs.use(route, field), label: labelOf(route) });
    for (const row of [...of, ...whole, end])
      rows.push(create(AuthorizationRowSchema, { ...plain(row), http, hosts: [...route.hostnames] }));
  }
  for (const row of whole) rows.push(create(AuthorizationRowSchema, { ...plain(row), tcpOnly: true }));
  return create(AuthorizationTableSchema, { ...table, rows });
}

/** Whether a policy is for this route, which is in its namespace. */
export function isTarget({ target }: LinkerdAuthorizationModel, route: InboundRouteModel): boolean {
  return target.kind === route.kind && target.name === route.name;
}

function plain({ ref, label, from, allow, audit }: AuthorizationRow) {
  return { ref, label, from, allow, audit };
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = (b[i] ?? 0) - (a[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** OR of sources; in each, identity AND network. Empty: anybody. */
function sourcesOf(model: Model, p: LinkerdAuthorizationModel, trustDomain: string): AuthorizationSource[] {
  let principals: string[] | undefined;
  let networks: NetworkAuthenticationModel['networks'] | undefined;
  for (const { kind, namespace, name } of p.authentications) {
    if (kind === 'ServiceAccount') principals = [`${trustDomain}/ns/${namespace}/sa/${name}`];
    else if (kind === 'MeshTLSAuthentication') {
      const found = model.meshTlsAuthentications.find((a) => a.namespace === namespace && a.name === name);
      principals = (found?.principals ?? []).map((x) => (x.startsWith('/') ? `${trustDomain}${x}` : x));
    } else {
      const found = model.networkAuthentications.find((a) => a.namespace === namespace && a.name === name);
      networks = found?.networks ?? [];
    }
  }
  // What is required and names nobody lets nobody in: no source would let everybody.
  if (principals?.length === 0 || networks?.length === 0) return [nobody()];
  if (!networks) return principals ? [create(AuthorizationSourceSchema, { principals })] : [];
  return networks.map((n) =>
    create(AuthorizationSourceSchema, {
      ...(principals && { principals }),
      ipBlocks: [n.cidr],
      notIpBlocks: [...n.except],
    }),
  );
}

function nobody(): AuthorizationSource {
  return create(AuthorizationSourceSchema, { principals: ['*'], notPrincipals: ['*'] });
}

function accessRows(policy: AccessPolicyName, ref: string, label: string, trustDomain: string): AuthorizationRow[] {
  const row = (from: AuthorizationSource[], audit = false): AuthorizationRow[] => [
    create(AuthorizationRowSchema, { ref, label, from, allow: true, audit }),
  ];
  switch (policy) {
    case 'deny':
      return [];
    case 'all-authenticated':
      return row([create(AuthorizationSourceSchema, { principals: ['*'] })]);
    case 'cluster-authenticated':
      return row([create(AuthorizationSourceSchema, { principals: [`${trustDomain}/*`] })]);
    case 'cluster-unauthenticated':
      return row([create(AuthorizationSourceSchema, { ipBlocks: CLUSTER_NETWORKS })]);
    default:
      return row([], policy === 'audit');
  }
}

function labelOf(r: Resource): string {
  return r.namespace === '' ? r.name : `${r.namespace}/${r.name}`;
}
