/** Services: that somebody provides them, that their ports and other names lead somewhere. */
import {
  type ExternalModel,
  findService,
  hostCovers,
  labelsMatch,
  originationsIn,
  resolveHost,
  type ServiceModel,
  targetPortOn,
} from '@weft/model';
import { list, pairs } from '../words.ts';
import type { Known } from './known.ts';

export function checkService(known: Known, service: ServiceModel): void {
  if (known.ok(service) && service.external) checkNames(known, service, service.external);
  if (!known.ok(service) || known.anyBroken('processes') || outOfProcesses(known, service)) return;
  const providers = known.providers(service);
  const { namespace, name } = service;
  if (providers.length === 0) {
    const there = known.model.processes
      .filter((p) => p.namespace === namespace)
      .map((p) => `${p.name} {${pairs(p.labels)}}`);
    const why = service.selector
      ? `its selector {${pairs(service.selector)}} matches no Process`
      : 'it has no selector';
    const have = list(there, 'none');
    const message = `nobody provides the service ${name}: ${why}. Processes in namespace ${namespace}: ${have}`;
    known.report(service, 'WEFT-NO-PROVIDER', message, service.selector ? 'spec.selector' : 'spec');
    return;
  }
  for (const port of service.ports) {
    if (typeof port.targetPort !== 'string') continue;
    const ports = (p: (typeof providers)[number]) => ({
      ports: p.ports.map((x) => ({ number: x.port, name: x.name })),
    });
    for (const p of providers) {
      if (targetPortOn(port, ports(p)) !== undefined) continue;
      const named = list(
        p.ports.filter((x) => x.name !== '').map((x) => x.name),
        'no port with a name',
      );
      const message = `names the port "${port.targetPort}", but the process ${p.name} has ${named}`;
      known.report(service, 'WEFT-NO-PORT', message, `${port.field}.targetPort`);
    }
  }
}

/** Names for certificates of a server that nobody begins TLS with. */
function checkNames(known: Known, service: ServiceModel, { host, subjectAltNames }: ExternalModel): void {
  const { model } = known;
  if (subjectAltNames.length === 0 || model.destinationRules.some((r) => !known.ok(r))) return;
  const begins = model.destinationRules.some(
    (r) => hostCovers(resolveHost(r.host, r.namespace, model.domain), host) && originationsIn(r).length > 0,
  );
  if (begins) return;
  const message = `no DestinationRule begins TLS for ${host} (tls.mode SIMPLE or MUTUAL): no certificate of it is looked at`;
  known.report(service, 'WEFT-NO-EFFECT', message, 'spec.subjectAltNames', 'warning');
}

/** Whether something else than processes of the mesh may be behind it. */
function outOfProcesses(known: Known, { external, selector, namespace, name }: ServiceModel): boolean {
  if (external) return true;
  if (!selector && known.model.endpointSlices.some((s) => s.namespace === namespace && s.service === name)) return true;
  // Who joins by it comes and goes.
  if (known.model.workloadGroups.some((g) => g.namespace === namespace && labelsMatch(selector ?? {}, g.members)))
    return true;
  return known.model.workloadEntries.some(
    (e) => e.namespace === namespace && labelsMatch(selector ?? {}, e.endpoint.labels),
  );
}

/** Another name for a service of the mesh; names of other hosts need no service, or a rule that says what they are. */
export function checkAlias(known: Known, alias: ServiceModel): void {
  if (!known.ok(alias)) return;
  const target = resolveHost(alias.externalName ?? '', alias.namespace, known.model.domain);
  if (findService(known.model, target)) return;
  const message = `${target} is no service of the mesh, which this would be another name of. Hosts outside are called by their own name. Services: ${list(known.hosts(), 'none')}`;
  known.report(alias, 'WEFT-NO-SERVICE', message, 'spec.externalName');
}

/** Of Services without a selector; those of others come from their workloads. */
export function checkEndpointSlices(known: Known): void {
  for (const slice of known.model.endpointSlices) {
    if (!known.ok(slice)) continue;
    const field = 'metadata.labels.kubernetes.io/service-name';
    const service = known.model.services.find(
      (s) => !s.external && s.namespace === slice.namespace && s.name === slice.service,
    );
    if (!service) known.serviceOf(slice, slice.service, field);
    else if (service.selector) {
      const message = `the Service ${service.name} has a selector: its endpoints are the workloads that it selects`;
      known.report(slice, 'WEFT-NO-EFFECT', message, field, 'warning');
    } else {
      for (const name of slice.ports.keys()) {
        if (service.ports.some((p) => p.name === name)) continue;
        const have = list(
          service.ports.map((p) => p.name || `${p.port}, without a name`),
          'none',
        );
        const message = `the Service ${service.name} has no port named "${name}". Its ports: ${have}`;
        known.report(slice, 'WEFT-NO-PORT', message, 'ports', 'warning');
      }
    }
  }
}
