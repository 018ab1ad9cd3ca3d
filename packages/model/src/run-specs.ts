/** What a supervisor reads of a model: the services that it tells applications of, and the groups by which workloads join. */
import { planProtocol } from './protocols.ts';
import type { Model } from './types/model.ts';
import type { ProbeModel } from './types/process.ts';

/** What each workload is like that joins by the group (Istio's WorkloadGroup). */
export interface GroupSpec {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly ports: readonly { readonly number: number; readonly name: string }[];
  readonly readiness: ProbeModel | undefined;
}

export interface ServiceSpec {
  readonly name: string;
  readonly namespace: string;
  readonly ports: readonly number[];
  /** Numbers, or names of ports of the processes. */
  readonly targetPorts: readonly (number | string)[];
  /** Of each port, as in a plan (`Protocol`). */
  readonly protocols: readonly number[];
  readonly selector: Readonly<Record<string, string>>;
}

export function groupSpecs(model: Model): GroupSpec[] {
  return model.workloadGroups.map((g) => ({
    name: g.name,
    namespace: g.namespace,
    labels: g.members,
    serviceAccount: g.serviceAccount,
    ports: [...g.ports].map(([name, number]) => ({ name, number })),
    readiness: g.probe,
  }));
}

export function serviceSpecs(model: Model): ServiceSpec[] {
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
