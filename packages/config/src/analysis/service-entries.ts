/** Two ServiceEntries for one host and port (IST0177, KIA1211), two WorkloadGroups with the same labels (KIA1702). */
import { type ServiceModel, serviceHost, type WorkloadGroupModel } from '@weft/model';
import type { Lint } from './lint.ts';

export function lintServiceEntries({ model, report, intact }: Lint): void {
  const first = new Map<string, { service: ServiceModel; protocol: string }>();
  for (const service of [...model.services, ...model.serviceAliases]) {
    if (service.kind !== 'ServiceEntry' || !intact(service)) continue;
    const host = serviceHost(service, model.domain);
    for (const port of service.ports) {
      const key = `${host} ${port.port}`;
      const other = first.get(key);
      if (!other) {
        first.set(key, { service, protocol: port.protocol });
        continue;
      }
      if (other.service.name === service.name && other.service.namespace === service.namespace) continue;
      const { namespace, name, source } = other.service;
      const where = `the ServiceEntry ${namespace}/${name} (${source.file}:${source.line})`;
      if (other.protocol !== port.protocol) {
        const message = `says ${port.protocol} of ${host}:${port.port}, where ${where} says ${other.protocol}: the first counts`;
        report(service, 'IST0177', message, port.field);
      } else report(service, 'KIA1211', `${host}:${port.port} is in ${where} already: the first counts`, port.field);
    }
  }
}

export function lintWorkloadGroups({ model, report, intact }: Lint): void {
  const first = new Map<string, WorkloadGroupModel>();
  for (const group of model.workloadGroups) {
    if (!intact(group) || Object.keys(group.members).length === 0) continue;
    const key = JSON.stringify([group.namespace, Object.entries(group.members).sort()]);
    const other = first.get(key);
    if (!other) first.set(key, group);
    else {
      const { name, source } = other;
      const message = `its workloads have the same labels as those of ${name} (${source.file}:${source.line})`;
      report(group, 'KIA1702', message, 'spec');
    }
  }
}
