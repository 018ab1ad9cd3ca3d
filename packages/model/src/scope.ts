/** Which services a client is told of: what is exported to it, as far as its Sidecar asks for it. */
import { hostCovers, isExportedTo, labelsMatch, serviceHost } from './hosts.ts';
import type { Model } from './types/model.ts';
import type { Labels } from './types/resource.ts';
import type { ServiceModel } from './types/service.ts';
import type { SidecarModel } from './types/sidecar.ts';

type Client = { readonly namespace: string; readonly labels: Labels };

/** One that selects the workload, else that of its namespace, else that of the root namespace; the first of a level. */
export function sidecarFor(model: Model, client: Client): SidecarModel | undefined {
  const own = model.sidecars.filter((s) => s.namespace === client.namespace);
  return (
    own.find((s) => s.workloadSelector && labelsMatch(s.workloadSelector, client.labels)) ??
    own.find((s) => !s.workloadSelector) ??
    model.sidecars.find((s) => s.namespace === model.rootNamespace && !s.workloadSelector)
  );
}

/** The ports of a service that a client is told of; undefined: all of them. */
export function egressPorts(model: Model, client: Client, service: ServiceModel): ReadonlySet<number> | undefined {
  const egress = sidecarFor(model, client)?.egress;
  if (!egress?.some((e) => e.port > 0)) return undefined;
  const asked = egress.filter((e) => asksFor(e, client, service, serviceHost(service, model.domain)));
  return asked.some((e) => e.port === 0) ? undefined : new Set(asked.map((e) => e.port));
}

function asksFor(
  e: { readonly namespace: string; readonly host: string },
  client: Client,
  service: ServiceModel,
  host: string,
): boolean {
  const scope = e.namespace === '.' ? client.namespace : e.namespace;
  return (scope === '*' || scope === service.namespace) && hostCovers(e.host, host);
}

/** Services that a client may call by their names, in the model's order. */
export function servicesFor(model: Model, client: Client): readonly ServiceModel[] {
  const egress = sidecarFor(model, client)?.egress;
  return model.services.filter((service) => {
    const { namespace, external } = service;
    if (external && namespace !== client.namespace && !isExportedTo(external.exportTo, client.namespace)) return false;
    if (!egress) return true;
    const host = serviceHost(service, model.domain);
    return egress.some((e) => asksFor(e, client, service, host));
  });
}
