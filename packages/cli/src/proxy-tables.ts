/** What a proxy's admin port tells, as tables. Protobuf's JSON leaves out what has its default value. */
import { type Cell, table } from './table.ts';

type Json = Record<string, unknown>;

const list = (value: unknown): Json[] => (Array.isArray(value) ? (value as Json[]) : []);
const texts = (value: unknown): string => (Array.isArray(value) ? value.join(',') : '');
const cell = (value: unknown): Cell =>
  typeof value === 'number' ? value : typeof value === 'string' && value !== '' ? value : undefined;
/** `MTLS_MODE_STRICT` with prefix `MTLS_MODE_` → `STRICT`; `fallback` where it is not set. */
const short = (value: unknown, prefix: string, fallback: string): string =>
  typeof value === 'string' && !value.endsWith('UNSPECIFIED') ? value.replace(prefix, '') : fallback;

function listeners(dump: Json): string {
  const rows: Cell[][] = [];
  for (const i of list(dump.inbound)) {
    rows.push([
      'inbound',
      cell(i.serviceHost) ?? 'workload',
      cell(i.port),
      short(i.protocol, 'PROTOCOL_', 'DETECT'),
      short(i.mtls, 'MTLS_MODE_', 'PERMISSIVE'),
      cell(i.mtlsRef),
    ]);
  }
  for (const g of list(dump.gateway))
    rows.push(['gateway', texts(g.hosts), cell(g.port), cell(g.protocol), undefined, cell(g.ref)]);
  for (const s of list(dump.outbound))
    for (const p of list(s.ports))
      rows.push(['outbound', cell(s.host), cell(p.port), outboundProtocol(p.protocol), undefined, texts(s.addresses)]);
  return table(['DIRECTION', 'SERVICE OR HOST', 'PORT', 'PROTOCOL', 'MTLS', 'ADDRESS OR RULE'], rows);
}

const PROTOCOLS = ['DETECT', 'HTTP', 'HTTP2', 'GRPC', 'TCP', 'TLS', 'GRPC_WEB'];
const outboundProtocol = (value: unknown): string =>
  typeof value === 'number' ? (PROTOCOLS[value] ?? String(value)) : short(value, 'PROTOCOL_', 'DETECT');

function routes(dump: Json): string {
  const rows: Cell[][] = [];
  const add = (where: string, r: Json): void => {
    const matches = list(r.match).length;
    const to = list(r.clusters)
      .map((c) => `${String(c.cluster)}${typeof c.weight === 'number' ? ` ${c.weight}` : ''}`)
      .join(', ');
    const instead = r.redirect ? 'redirect' : r.directResponse ? 'direct response' : '';
    rows.push([where, matches === 0 ? 'all' : `${matches} rules`, to || instead, cell(r.ref)]);
  };
  for (const s of list(dump.services))
    for (const p of list(s.ports))
      for (const r of [...list(p.http), ...list(p.tls), ...list(p.tcp)]) add(`${String(s.host)}:${String(p.port)}`, r);
  for (const g of list(dump.gateways))
    for (const s of list(g.servers)) {
      for (const r of [...list(s.tlsRoutes), ...list(s.tcp)]) add(`${s.tls ? 'tls' : 'tcp'}://:${String(g.port)}`, r);
      for (const h of list(s.virtualHosts))
        for (const r of list(h.http)) add(`${s.tls ? 'https' : 'http'}://${String(h.host)}:${String(g.port)}`, r);
    }
  return table(['SERVICE OR HOST', 'MATCH', 'TO (CLUSTER, WEIGHT)', 'RULE'], rows, 160);
}

function clusters(dump: Json): string {
  return table(
    ['SERVICE', 'PORT', 'SUBSET', 'BALANCER', 'OUTLIERS', 'RULE'],
    list(dump.clusters).map((c) => [
      cell(c.host),
      cell(c.port),
      cell(c.subset),
      short(c.lb, 'LB_POLICY_', 'LEAST_REQUEST'),
      c.outlier ? 'yes' : 'no',
      cell(c.ref),
    ]),
    160,
  );
}

function endpoints(dump: Json): string {
  const rows: Cell[][] = [];
  for (const s of list(dump.services)) {
    for (const e of list(s.endpoints)) {
      const state = (e.state ?? {}) as Json;
      rows.push([
        `${String(s.host)}:${String(s.port)}`,
        cell(e.instance),
        `${String(e.address)}:${String(e.port)}`,
        cell(state.health),
        cell(state.activeRequests),
        cell(e.identity),
      ]);
    }
  }
  return table(['SERVICE', 'INSTANCE', 'ADDRESS', 'HEALTH', 'ACTIVE', 'IDENTITY'], rows, 160);
}

function secrets(dump: Json): string {
  const row = (c: Json, name: string): Cell[] => [
    name,
    cell(c.type),
    cell(c.state),
    c.valid === true ? 'true' : 'false',
    cell(c.serial),
    cell(c.notAfter),
    cell(c.notBefore),
  ];
  const own = list(dump.certificates).map((c) => {
    const whose = cell(c.spiffeId) ?? cell(c.names);
    return row(c, `${String(c.resource)}${whose ? ` (${whose})` : ''}`);
  });
  const roots = list(dump.trustBundle).map((c) => row(c, `${String(c.resource)} (${String(c.trustDomain)})`));
  const head = ['RESOURCE NAME', 'TYPE', 'STATUS', 'VALID CERT', 'SERIAL NUMBER', 'NOT AFTER', 'NOT BEFORE'];
  return table(head, [...own, ...roots], 220);
}

/** What may be asked for: the admin port's path, and its answer as a table. */
export const PROXY_TABLES: ReadonlyMap<string, { path: string; render(dump: Json): string }> = new Map([
  ['listener', { path: '/listeners', render: listeners }],
  ['route', { path: '/routes', render: routes }],
  ['cluster', { path: '/clusters', render: clusters }],
  ['endpoint', { path: '/endpoints', render: endpoints }],
  ['secret', { path: '/certs', render: secrets }],
]);
