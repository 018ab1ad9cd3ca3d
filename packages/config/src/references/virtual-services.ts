/** VirtualServices: hosts, ports and delegates that they name, and two of them for one host. */
import {
  boundHosts,
  delegateOf,
  findService,
  gatewayName,
  hostCovers,
  isExportedTo,
  isSeenFrom,
  MESH_GATEWAY,
  mergeDelegated,
  resolveHost,
  type VirtualServiceModel,
} from '@weft/model';
import { list } from '../words.ts';
import { checkDestination } from './destination.ts';
import type { Known } from './known.ts';

export function checkVirtualService(known: Known, vs: VirtualServiceModel): void {
  if (!known.ok(vs)) return;
  const mesh = vs.gateways.includes(MESH_GATEWAY);
  for (const [i, host] of vs.hosts.entries()) {
    const field = `spec.hosts[${i}]`;
    // What a gateway serves needs no service of its name.
    if (!mesh || servedByGateway(known, vs, host)) continue;
    if (host.startsWith('*')) {
      if (!known.hosts().some((h) => hostCovers(host.toLowerCase(), h))) {
        known.report(vs, 'WEFT-NO-SERVICE', `no service has a host like ${host}`, field, 'warning');
      }
      continue;
    }
    const service = known.serviceOf(vs, host, field);
    if (!service) continue;
    for (const route of [...vs.http, ...vs.tcp, ...vs.tls]) {
      for (const [j, m] of route.match.entries()) {
        // A port of a Gateway need not be one of the service.
        if (m.gateways.length > 0 && !m.gateways.includes(MESH_GATEWAY)) continue;
        if (m.port !== 0 && !service.ports.some((p) => p.port === m.port)) {
          known.noPort(vs, service, m.port, `${route.field}.match[${j}].port`);
        }
      }
    }
  }
  for (const route of [...vs.http, ...vs.tcp, ...vs.tls]) {
    for (const d of route.route) checkDestination(known, vs, d, `${d.field}.destination`, d.weight > 0);
  }
  checkDelegates(known, vs);
  for (const route of vs.http) {
    for (const m of route.mirrors) checkDestination(known, vs, m, m.field, m.percent > 0);
  }
}

/** Whom a rule hands over to must be there, and be a delegate; its routes must be within what is handed over. */
function checkDelegates(known: Known, vs: VirtualServiceModel): void {
  const all = known.model.virtualServices;
  for (const route of vs.http) {
    if (!route.delegate) continue;
    const { namespace, name } = route.delegate;
    const field = `${route.field}.delegate`;
    const named = all.find((v) => v.name === name && v.namespace === namespace);
    const delegate = delegateOf(known.model, vs, route);
    if (named && !known.ok(named)) continue;
    if (!named) {
      const have = list(
        all.filter((v) => v.hosts.length === 0).map((v) => `${v.namespace}/${v.name}`),
        'none (a delegate is a VirtualService without hosts)',
      );
      const message = `there is no VirtualService ${name} in namespace ${namespace}. Delegates: ${have}`;
      known.report(vs, 'WEFT-NO-TARGET', message, `${field}.name`);
    } else if (!delegate) {
      const why = named.hosts.length > 0 ? 'has hosts of its own' : `is not exported to namespace ${vs.namespace}`;
      known.report(vs, 'WEFT-NO-TARGET', `the VirtualService ${namespace}/${name} ${why}: it is no delegate`, field);
    } else {
      for (const leaf of delegate.http) {
        if (mergeDelegated(vs, route, delegate, leaf)) continue;
        const message = `is never reached by ${vs.namespace}/${vs.name} (${vs.source.file}:${vs.source.line}): no request meets the conditions of both`;
        known.report(delegate, 'WEFT-UNREACHABLE', message, leaf.field, 'warning');
      }
    }
  }
  if (vs.hosts.length > 0 || all.some((v) => v.http.some((r) => delegateOf(known.model, v, r) === vs))) return;
  const message = 'has no hosts, and no VirtualService hands over to it: it holds for nothing';
  known.report(vs, 'WEFT-NO-EFFECT', message, 'metadata.name', 'warning');
}

function servedByGateway(known: Known, vs: VirtualServiceModel, host: string): boolean {
  const one = { ...vs, hosts: [host] };
  const service = findService(known.model, resolveHost(host, vs.namespace, known.model.domain));
  if (service || vs.gateways.length === 1) return false;
  return known.model.gateways.some(
    (g) => vs.gateways.includes(gatewayName(g)) && g.servers.some((s) => boundHosts(known.model, s, one).length > 0),
  );
}

export function checkOneVirtualServiceAHost(known: Known): void {
  const first = new Map<string, VirtualServiceModel[]>();
  for (const vs of known.model.virtualServices) {
    // On gateways they are merged.
    if (!vs.gateways.includes(MESH_GATEWAY)) continue;
    for (const [i, host] of vs.hosts.entries()) {
      const fqdn = resolveHost(host, vs.namespace, known.model.domain);
      const others = first.get(fqdn) ?? [];
      // Two that no client sees both do not meet.
      const other = others.find((o) => o === vs || meet(o, vs));
      if (!other) first.set(fqdn, [...others, vs]);
      else {
        const where = `${other.namespace}/${other.name} (${other.source.file}:${other.source.line})`;
        const message =
          other === vs
            ? `the host ${host} is there twice`
            : `the host ${fqdn} already has the VirtualService ${where}: they are not merged; make one of them`;
        known.report(vs, 'WEFT-HOST-CONFLICT', message, `spec.hosts[${i}]`);
      }
    }
  }
}

/** Whether the clients of some namespace see both rules. */
function meet(a: VirtualServiceModel, b: VirtualServiceModel): boolean {
  const seen = (vs: VirtualServiceModel): string[] => [
    vs.namespace,
    ...(vs.exportTo ?? []).filter((n) => n !== '.' && n !== '*'),
  ];
  const everywhere = (vs: VirtualServiceModel): boolean => isExportedTo(vs.exportTo, '*');
  return (everywhere(a) && everywhere(b)) || [...seen(a), ...seen(b)].some((n) => isSeenFrom(a, n) && isSeenFrom(b, n));
}
