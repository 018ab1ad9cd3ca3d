/** Ports of Services: what they speak, and Services that share a workload's port (IST0116, 0118, 0137, KIA1701). */
import { labelsMatch, type ProcessModel, type ServiceModel, type ServicePortModel, targetPortOn } from '@weft/model';
import type { Lint } from './lint.ts';

export function lintServices(l: Lint): void {
  const { model, report, intact } = l;
  for (const service of model.services) {
    if (!intact(service)) continue;
    for (const port of service.ports) {
      if (port.protocol !== 'detect' || port.transport !== 'TCP') continue;
      const message = `the port ${port.port}${port.name ? ` (${port.name})` : ''} says no protocol: it is detected on the first bytes of each connection. Name it http, grpc, tcp … (or PROTOCOL-anything), or set appProtocol`;
      report(service, 'IST0118', message, port.field);
    }
  }
  for (const process of model.processes) if (intact(process)) sharedPorts(l, process);
  const accounts = new Set(model.serviceAccounts.map((a) => `${a.namespace}/${a.name}`));
  for (const p of model.processes) {
    const name = p.serviceAccountName;
    if (name === 'default' || accounts.has(`${p.namespace}/${name}`) || !intact(p)) continue;
    report(
      p,
      'KIA1701',
      `no ServiceAccount ${name} is declared in namespace ${p.namespace}`,
      'spec.serviceAccountName',
    );
  }
}

function sharedPorts({ model, report, intact }: Lint, process: ProcessModel): void {
  const ports = process.ports.map((p) => ({ number: p.port, name: p.name }));
  const first = new Map<number, { service: ServiceModel; port: ServicePortModel }>();
  for (const service of model.services) {
    if (service.namespace !== process.namespace || !intact(service)) continue;
    const selector = service.selector;
    if (!selector || Object.keys(selector).length === 0 || !labelsMatch(selector, process.labels)) continue;
    for (const port of service.ports) {
      const target = port.transport === 'TCP' ? targetPortOn(port, { ports }) : undefined;
      if (target === undefined) continue;
      const other = first.get(target);
      if (!other) {
        first.set(target, { service, port });
        continue;
      }
      if (other.service === service) continue;
      const { file, line } = other.service.source;
      const where = `${other.service.name} (${file}:${line})`;
      if (port.protocol !== other.port.protocol) {
        const message = `says ${port.protocol} of the port ${target} of ${process.name}, of which the Service ${where} says ${other.port.protocol}: a port has one protocol`;
        report(service, 'IST0116', message, port.field);
      } else if (port.port !== other.port.port) {
        const message = `leads from its port ${port.port} to the port ${target} of ${process.name}, the Service ${where} from ${other.port.port}: inbound rules and metrics know one of them`;
        report(service, 'IST0137', message, port.field);
      }
    }
  }
}
