/** A destination of a route: its service, its port and its subset must be there. */
import {
  type DestinationModel,
  destinationRuleFor,
  labelsMatch,
  type Resource,
  type ServiceModel,
  serviceHost,
} from '@weft/model';
import { list, pairs } from '../words.ts';
import type { Known } from './known.ts';

type Target = Pick<DestinationModel, 'host' | 'subset' | 'port'>;

/** `used`: something is sent there. */
export function checkDestination(known: Known, vs: Resource, d: Target, at: string, used: boolean): void {
  // Of a VirtualService, and of a reference of the Gateway API.
  const [hostField, portField] = vs.kind === 'VirtualService' ? ['host', 'port.number'] : ['name', 'port'];
  const service = known.serviceOf(vs, d.host, `${at}.${hostField}`);
  if (!service || !known.ok(service)) return;
  const tcp = service.ports.filter((p) => p.transport === 'TCP');
  if (d.port !== 0) {
    if (!tcp.some((p) => p.port === d.port)) known.noPort(vs, service, d.port, `${at}.${portField}`);
  } else if (tcp.length !== 1) {
    const have = list(
      tcp.map((p) => `${p.port}`),
      'none',
    );
    const message = `the service ${service.name} has the ports ${have}: say which, with port.number`;
    known.report(vs, 'WEFT-NO-PORT', message, at);
  }
  if (d.subset !== '') checkSubset(known, vs, d, at, service, used);
}

function checkSubset(known: Known, vs: Resource, d: Target, at: string, service: ServiceModel, used: boolean): void {
  if (known.anyBroken('destinationRules')) return;
  const field = `${at}.subset`;
  // The rules a client sees depend on its namespace; a subset must be there for clients of the rule's and the service's.
  const host = serviceHost(service, known.model.domain);
  for (const client of new Set([vs.namespace, service.namespace])) {
    const effective = destinationRuleFor(known.model, { namespace: client, labels: {} }, service);
    const found = effective.subsets.find((s) => s.subset.name === d.subset);
    if (!found) {
      const have = list(
        effective.subsets.map((s) => s.subset.name),
        'none (a DestinationRule defines them)',
      );
      known.report(vs, 'WEFT-NO-SUBSET', `${host} has no subset "${d.subset}". Subsets: ${have}`, field);
      return;
    }
    const providers = known.providers(service);
    const joins = known.model.workloadGroups.some((g) => labelsMatch(found.subset.labels, g.members));
    if (used && !joins && providers.length > 0 && !providers.some((p) => labelsMatch(found.subset.labels, p.labels))) {
      const have = list(
        providers.map((p) => `${p.name} {${pairs(p.labels)}}`),
        'none',
      );
      const message = `the subset "${d.subset}" {${pairs(found.subset.labels)}} of ${host} matches no process. Processes: ${have}`;
      known.report(vs, 'WEFT-EMPTY-SUBSET', message, field);
      return;
    }
  }
}
