/** What a supervisor reads of a model: the services that it tells applications of, and the groups by which workloads join. */
import { planProtocol } from './protocols.ts';
import type { Model } from './types/model.ts';

/** What each workload is like that joins by a group (Istio's WorkloadGroup); @weft/host has the shape. */
export type GroupSpec = ReturnType<typeof groupSpecs>[number];

export function groupSpecs(model: Model) {
  return model.workloadGroups.map((g) => ({
    name: g.name,
    namespace: g.namespace,
    labels: g.members,
    serviceAccount: g.serviceAccount,
    ports: [...g.ports].map(([name, number]) => ({ name, number })),
    readiness: g.probe,
  }));
}

export function serviceSpecs(model: Model) {
  // What stands outside has a name of its own: no variables say it.
  const own = model.services.filter((s) => !s.external);
  return own.map((s) => ({
    name: s.name,
    namespace: s.namespace,
    ports: s.ports.map((p) => p.port),
    targetPorts: s.ports.map((p) => p.targetPort),
    protocols: s.ports.map((p) => planProtocol(p.protocol)),
    selector: s.selector ?? {},
  }));
}
