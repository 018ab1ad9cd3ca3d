/** What of a mesh's workloads has to be reachable from outside of them: the mesh port, a gateway's ports, and no more. */
import { type Entrances, entranceRules } from '@weft/capture';
import { authenticatePort } from '@weft/engine';
import { meshFromModel, type Side } from '@weft/lab';
import { MESH_PORT, type Model, type ProcessModel } from '@weft/model';

/** Probes and metrics: for who watches the mesh. */
const MONITORING = [15020, 15021, 15090];

export interface WorkloadEntrances {
  readonly process: ProcessModel;
  readonly entrances: Entrances;
}

export interface MeshEntrances {
  readonly workloads: readonly WorkloadEntrances[];
  /** What closing the rest breaks, or what it leaves open: one line each. */
  readonly warnings: readonly string[];
}

/** `monitoring`: addresses and ranges that may ask for metrics and probes. */
export function meshEntrances(model: Model, monitoring: readonly string[]): MeshEntrances {
  const mesh = meshFromModel(model);
  const workloads: WorkloadEntrances[] = [];
  const warnings: string[] = [];
  const restricted = monitoring.length > 0 ? { restricted: { ports: MONITORING, from: monitoring } } : {};
  for (const process of model.processes) {
    const name = `${process.namespace}/${process.name}`;
    const instance = mesh.instances.find((i) => i.workload === process.name && i.namespace === process.namespace);
    const side = instance && mesh.side(instance.name);
    if (!side?.injected) {
      if (side) warnings.push(`${name} has no proxy: nothing is written for it`);
      continue;
    }
    if (process.gateway) {
      const ports = [...side.snapshot.gateways];
      const visitors = ports.filter(([, view]) => !view.plain?.server.meshOnly).map(([port]) => port);
      // The mesh reaches what the gateway does not end TLS of its own on.
      const inside = ports.some(([, view]) => !view.listener.servers.some((s) => s.tls));
      const open = [...visitors, ...(inside ? [MESH_PORT] : [])].sort((a, b) => a - b);
      workloads.push({ process, entrances: { open, ...restricted } });
      continue;
    }
    warnings.push(...whatBreaks(name, process, side));
    workloads.push({ process, entrances: { open: [MESH_PORT], ...restricted } });
  }
  return { workloads, warnings };
}

function whatBreaks(name: string, process: ProcessModel, side: Side): string[] {
  const found: string[] = [];
  const plain = process.ports.filter((p) => authenticatePort(side.snapshot, p.port, { mtls: false }));
  if (plain.length > 0) {
    const ports = plain.map((p) => p.port).join(', ');
    found.push(`${name} is not STRICT on ${ports}: callers without a proxy, which it answers now, are shut out`);
  }
  const left = process.capture.excludeInboundPorts;
  if (left.length > 0 || process.capture.includeInboundPorts) {
    found.push(`${name} has ports that its annotations leave out of capture: they are closed too`);
  }
  return found;
}

/** NetworkPolicies (networking.k8s.io/v1), one for each workload. */
export function networkPolicies({ workloads }: MeshEntrances): string {
  const text = (value: string): string => JSON.stringify(value);
  return workloads
    .map(({ process, entrances: { open, restricted } }) => {
      const labels = Object.entries(process.labels).map(([key, value]) => `      ${text(key)}: ${text(value)}\n`);
      const ports = (list: readonly number[]): string =>
        `      ports:\n${list.map((port) => `        - {protocol: TCP, port: ${port}}\n`).join('')}`;
      const rules: string[] = [];
      if (open.length > 0) rules.push(ports(open).replace('      ports', '    - ports'));
      if (restricted) {
        const from = restricted.from.map((range) => `        - ipBlock: {cidr: ${text(block(range))}}\n`).join('');
        rules.push(`    - from:\n${from}${ports(restricted.ports)}`);
      }
      return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: ${text(`weft-${process.name}`)}
  namespace: ${text(process.namespace)}
spec:
  podSelector:
    matchLabels:${labels.length > 0 ? `\n${labels.join('')}` : ' {}\n'}  policyTypes: [Ingress]
  ingress:${rules.length > 0 ? `\n${rules.join('')}` : ' []\n'}`;
    })
    .join('---\n');
}

/** An `ipBlock` is a range. */
function block(range: string): string {
  return range.includes('/') ? range : `${range}/${range.includes(':') ? 128 : 32}`;
}

/** For the network namespace, or the host, of one workload. `more`: TCP ports of the host's own, such as 22. */
export function nftRules({ process, entrances }: WorkloadEntrances, more: readonly number[]): string {
  const open = [...new Set([...entrances.open, ...more])];
  return `# ${process.namespace}/${process.name}\n${entranceRules({ ...entrances, open })}`;
}
