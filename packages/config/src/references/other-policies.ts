/** Linkerd's policy and Consul's intentions: what they name must be there, and nothing may be said twice. */
import {
  ACCESS_POLICIES,
  accountsOf,
  DEFAULT_INBOUND_POLICY,
  type InboundRouteModel,
  labelsMatch,
  type Model,
  type Resource,
  refOf,
  type ServerModel,
  serverPort,
  tokensNamed,
  workloadOfProcess,
} from '@weft/model';
import { list, pairs } from '../words.ts';
import type { Report } from './known.ts';

export function checkOtherPolicies(model: Model, broken: ReadonlySet<string>, report: Report): void {
  const ok = (r: Resource): boolean => !broken.has(refOf(r));
  const missing = (
    r: Resource,
    what: string,
    name: string,
    there: readonly Resource[],
    namespace: string,
    at: string,
  ) => {
    const names = there.filter((x) => x.namespace === namespace).map((x) => x.name);
    if (names.includes(name)) return;
    const message = `there is no ${what} ${name} in namespace ${namespace}. There: ${list(names, 'none')}`;
    report(r, 'WEFT-NO-TARGET', message, at);
  };
  for (const r of [...model.processes, ...model.namespaces]) {
    const said = r.annotations[DEFAULT_INBOUND_POLICY];
    if (said === undefined || (ACCESS_POLICIES as readonly string[]).includes(said)) continue;
    const message = `${DEFAULT_INBOUND_POLICY} is "${said.slice(0, 80)}"; it may be ${ACCESS_POLICIES.join(', ')}`;
    report(r, 'WEFT-VALUE', message, `metadata.annotations.${DEFAULT_INBOUND_POLICY}`);
  }
  for (const p of model.linkerdAuthorizations) {
    if (!ok(p)) continue;
    const { kind, name } = p.target;
    const at = 'spec.targetRef.name';
    if (kind === 'Server') missing(p, kind, name, model.servers, p.namespace, at);
    else if (kind !== 'Namespace') {
      const there = model.inboundRoutes.filter((r) => r.kind === kind);
      missing(p, `${kind} of a Server`, name, there, p.namespace, at);
    }
    for (const a of p.authentications) {
      const field = `${a.field}.name`;
      if (a.kind === 'MeshTLSAuthentication')
        missing(p, a.kind, a.name, model.meshTlsAuthentications, a.namespace, field);
      if (a.kind === 'NetworkAuthentication')
        missing(p, a.kind, a.name, model.networkAuthentications, a.namespace, field);
    }
  }
  for (const r of model.inboundRoutes) {
    if (!ok(r)) continue;
    for (const { name, field } of r.servers) {
      missing(r, 'Server', name, model.servers, r.namespace, field);
      if (model.servers.some((s) => s.opaque && s.name === name && s.namespace === r.namespace)) {
        const message = `the Server ${name} carries TCP (proxyProtocol), where no request is seen: the route has no effect`;
        report(r, 'WEFT-TCP-POLICY', message, field);
      }
    }
  }
  for (const [i, p] of model.jwtProviders.entries()) {
    const first = model.jwtProviders.findIndex((other) => other.name === p.name);
    if (first === i || !ok(p)) continue;
    const { file, line } = model.jwtProviders[first].source;
    const message = `there is a JWTProvider ${p.name} already (${file}:${line}): the name holds for the whole mesh`;
    report(p, 'WEFT-VALUE', message, 'metadata.name');
  }
  serversHold(model, ok, report);
  oneKindAServer(model, ok, report);
  oneServerAPort(model, ok, report);
  for (const i of model.serviceIntentions) {
    if (!ok(i)) continue;
    const { name, namespace } = i.destination;
    const own = model.services.filter((s) => !s.external);
    for (const { provider, field } of tokensNamed(i)) {
      const names = model.jwtProviders.map((p) => p.name);
      if (names.includes(provider)) continue;
      const message = `there is no JWTProvider ${provider}. There are: ${list(names, 'none')}`;
      report(i, 'WEFT-NO-TARGET', message, `${field}.name`);
    }
    if (name !== '*') missing(i, 'Service', name, own, namespace, 'spec.destination.name');
    for (const s of i.sources) {
      if (s.name === '*' || s.namespace === '*') continue;
      const [account] = accountsOf(model, s);
      const known = own.some((x) => x.name === s.name && x.namespace === s.namespace);
      const accounts = [...model.serviceAccounts.map((a) => `${a.namespace}/${a.name}`)];
      for (const p of model.processes) accounts.push(`${p.namespace}/${p.serviceAccountName}`);
      if (known || accounts.includes(account)) continue;
      missing(i, 'Service or ServiceAccount', s.name, own, s.namespace, `${s.field}.name`);
    }
  }
}

/** A Server that selects nothing, or a port that nobody has, closes nothing: its author thinks otherwise. */
function serversHold(model: Model, ok: (r: Resource) => boolean, report: Report): void {
  if (model.processes.some((p) => !ok(p))) return;
  for (const server of model.servers) {
    if (!ok(server)) continue;
    const { namespace, selector, port } = server;
    const selected = model.processes.filter((p) => p.namespace === namespace && labelsMatch(selector, p.labels));
    if (selected.length === 0) {
      const message = `the selector {${pairs(selector)}} matches no process: the Server holds for nothing`;
      report(server, 'WEFT-NO-TARGET', message, 'spec.podSelector', 'warning');
      continue;
    }
    const there = selected.flatMap((p) => p.ports);
    if (there.some((p) => p.port === port || p.name === port)) continue;
    const known = [...new Set(there.map((p) => (p.name === '' ? String(p.port) : `${p.name} (${p.port})`)))];
    const message = `none of the selected processes has a port ${port}, so it stays open. They have: ${list(known, 'none')}`;
    // By its number it may be a port that nobody wrote down.
    report(server, 'WEFT-NO-TARGET', message, 'spec.port', typeof port === 'string' ? 'error' : 'warning');
  }
}

/** Which of an HTTPRoute and a GRPCRoute is more specific nobody has said. */
function oneKindAServer(model: Model, ok: (r: Resource) => boolean, report: Report): void {
  for (const route of model.inboundRoutes) {
    if (route.kind !== 'GRPCRoute' || !ok(route)) continue;
    const same = (r: InboundRouteModel): boolean => r.servers.some((s) => route.servers.some((x) => x.name === s.name));
    const other = model.inboundRoutes.find(
      (r) => r.kind !== 'GRPCRoute' && r.namespace === route.namespace && ok(r) && same(r),
    );
    if (!other) continue;
    const message = `the HTTPRoute ${other.name} (${other.source.file}:${other.source.line}) is of the same Server: write all its routes as HTTPRoutes (methods are paths, /package.Service/Method), or all as GRPCRoutes`;
    report(route, 'WEFT-ROUTE-CONFLICT', message, 'spec.parentRefs');
  }
}

function oneServerAPort(model: Model, ok: (r: Resource) => boolean, report: Report): void {
  const told = new Set<ServerModel>();
  for (const process of model.processes) {
    const first = new Map<number, ServerModel>();
    for (const server of model.servers) {
      const port = ok(server) ? serverPort(server, workloadOfProcess(process)) : undefined;
      if (port === undefined) continue;
      const other = first.get(port);
      if (!other) first.set(port, server);
      else if (!told.has(server)) {
        told.add(server);
        const message = `port ${port} of ${process.name} has the Server ${other.name} (${other.source.file}:${other.source.line}); the first counts, this one is ignored there`;
        report(server, 'WEFT-IGNORED', message, 'spec.port', 'warning');
      }
    }
  }
}
