/** Gateways: shared certificates, and ports that no Service leads to (IST0138, IST0162). */
import { type GatewayModel, gatewayName, labelsMatch, serviceSelects } from '@weft/model';
import { list } from '../words.ts';
import type { Lint } from './lint.ts';

export function lintGateways({ model, report, intact }: Lint): void {
  const certificates = new Map<string, GatewayModel>();
  for (const gateway of model.gateways) {
    if (!intact(gateway)) continue;
    const workloads = model.processes.filter((p) => p.gateway && labelsMatch(gateway.selector, p.labels));
    const services = model.services.filter((s) => workloads.some((w) => serviceSelects(s, w)));
    for (const server of gateway.servers) {
      const ports = services.flatMap((s) => s.ports.map((p) => p.port));
      if (services.length > 0 && !ports.includes(server.port)) {
        const have = list([...new Set(ports)].map(String), 'none');
        const message = `no Service of the gateway has the port ${server.port}: nobody outside reaches it. Ports: ${have}`;
        report(gateway, 'IST0162', message, `${server.field}.port`);
      }
      for (const { name, field } of server.tls?.credentials ?? []) {
        const key = JSON.stringify([Object.entries(gateway.selector).sort(), server.port, name]);
        const other = certificates.get(key);
        if (!other) certificates.set(key, gateway);
        else if (other !== gateway) {
          const message = `the Gateway ${gatewayName(other)} (${other.source.file}:${other.source.line}) has the same certificate ${name}: clients reuse a connection of one for hosts of the other. Make one Gateway of them, or give each its own certificate`;
          report(gateway, 'IST0138', message, field);
        }
      }
    }
  }
}
