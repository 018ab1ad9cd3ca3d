/** Which ports a workload has: those it declares, and those that services send to it. */
import { servicesSelecting } from './lookup.ts';
import { sidecarFor } from './scope.ts';
import type { Model } from './types/model.ts';
import type { Instance } from './types/runtime.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';

/** Workload port of a service port on one instance; undefined where the instance has no port of that name. */
export function targetPortOn(port: ServicePortModel, instance: Pick<Instance, 'ports'>): number | undefined {
  if (typeof port.targetPort === 'number') return port.targetPort;
  return instance.ports.find((p) => p.name === port.targetPort)?.number;
}

/** Of each port that services send to: the first of them. */
export function backingPorts(
  model: Model,
  instance: Instance,
): Map<number, { service: ServiceModel; port: ServicePortModel }> {
  const backing = new Map<number, { service: ServiceModel; port: ServicePortModel }>();
  for (const service of servicesSelecting(model, instance)) {
    for (const port of service.ports) {
      const target = port.transport === 'TCP' ? targetPortOn(port, instance) : undefined;
      if (target !== undefined && !backing.has(target)) backing.set(target, { service, port });
    }
  }
  return backing;
}

/** A Sidecar with ingress says it alone. */
export function inboundPorts(model: Model, instance: Instance): Set<number> {
  const ingress = sidecarFor(model, instance)?.ingress;
  if (ingress) return new Set(ingress.map((i) => i.port));
  return new Set([...instance.ports.map((p) => p.number), ...backingPorts(model, instance).keys()]);
}
