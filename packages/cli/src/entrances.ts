/** Where a mesh is entered from outside: the addresses of its gateways, as somebody would type them. */
import type { InstanceStatus } from '@weft/host';
import { gatewaysOf, listeningPort, type Model } from '@weft/model';

export interface Entrance {
  readonly instance: string;
  readonly secure: boolean;
  /** Connections, not requests. */
  readonly opaque: boolean;
  readonly address: string;
  readonly port: number;
  /** Hosts that are answered there, `*` for any. */
  readonly hosts: readonly string[];
}

export function entrances(model: Model, instances: readonly InstanceStatus[]): Entrance[] {
  const out: Entrance[] = [];
  for (const i of instances) {
    const process = i.gateway && model.processes.find((p) => p.name === i.workload && p.namespace === i.namespace);
    if (!process) continue;
    const ports = process.ports.map((p) => ({ number: p.port, name: p.name }));
    for (const gateway of gatewaysOf(model, process)) {
      for (const server of gateway.servers) {
        // Nobody outside comes in there.
        if (server.tls?.mode === 'ISTIO_MUTUAL') continue;
        const port = listeningPort(model, { ...process, ports }, server.port);
        const hosts = [...new Set(server.hosts.map((h) => h.host))];
        out.push({
          instance: i.name,
          secure: server.tls !== undefined,
          opaque: server.opaque,
          address: i.address,
          port,
          hosts,
        });
      }
    }
  }
  return out;
}

/** `http://10.64.0.2:8080`, without the scheme's own port. */
export function entranceUrl(e: Entrance): string {
  if (e.opaque) return `${e.secure ? 'tls' : 'tcp'}://${e.address}:${e.port}`;
  const usual = e.port === (e.secure ? 443 : 80);
  return `${e.secure ? 'https' : 'http'}://${e.address}${usual ? '' : `:${e.port}`}`;
}
