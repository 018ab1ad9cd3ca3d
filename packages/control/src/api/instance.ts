/** An instance as the supervisor sends it: checked, since the plan of the whole mesh is made from it. */
import { isIP } from 'node:net';
import { canonicalIp, WeftError } from '@weft/base';
import type { Instance, InstancePort, PortProtocol } from '@weft/model';

const NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/;
const PROTOCOLS = new Set<unknown>(['detect', 'http', 'http2', 'grpc', 'grpc-web', 'tcp', 'tls']);

function bad(field: string, what: string): WeftError {
  return new WeftError('control/bad-instance', `instance: ${field} ${what}`);
}

function name(value: unknown, field: string): string {
  if (typeof value !== 'string' || !NAME.test(value))
    throw bad(field, 'must be a name of letters, digits, "-", "_" and "."');
  return value;
}

function port(value: unknown, field: string): number {
  if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > 65_535)
    throw bad(field, 'must be a port number');
  return value as number;
}

function weight(value: unknown): number {
  if (typeof value !== 'number' || !(value > 0 && value <= 1000))
    throw bad('weight', 'must be above 0 and at most 1000');
  return value;
}

/** Throws `control/bad-instance` naming the field. */
export function parseInstance(value: unknown, wanted: string): Instance {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('the body', 'must be an object');
  const v = value as Record<string, unknown>;
  if (v.name !== undefined && v.name !== wanted) throw bad('name', `must be ${wanted}, as in the path`);
  const address = v.address;
  if (typeof address !== 'string' || isIP(address) === 0) throw bad('address', 'must be an IP address');
  const dialAddress = v.dialAddress ?? address;
  if (typeof dialAddress !== 'string' || isIP(dialAddress) === 0) throw bad('dialAddress', 'must be an IP address');
  const { address6 } = v;
  if (address6 !== undefined && (typeof address6 !== 'string' || isIP(address6) !== 6 || isIP(address) === 6))
    throw bad('address6', 'must be an IPv6 address beside an IPv4 one');
  const labels = new Map<string, string>();
  for (const [key, text] of Object.entries((v.labels as object) ?? {})) {
    if (typeof text !== 'string') throw bad(`labels.${key}`, 'must be a text');
    labels.set(key, text);
  }
  if (v.ports !== undefined && !Array.isArray(v.ports)) throw bad('ports', 'must be a list');
  const ports = ((v.ports as unknown[]) ?? []).map((entry, i): InstancePort => {
    const p = entry as Record<string, unknown>;
    if (typeof p !== 'object' || p === null) throw bad(`ports[${i}]`, 'must be an object');
    if (p.protocol !== undefined && !PROTOCOLS.has(p.protocol))
      throw bad(`ports[${i}].protocol`, `must be one of ${[...PROTOCOLS].join(', ')}`);
    return {
      number: port(p.number, `ports[${i}].number`),
      ...(p.name === undefined ? {} : { name: name(p.name, `ports[${i}].name`) }),
      ...(p.protocol === undefined ? {} : { protocol: p.protocol as PortProtocol }),
      ...(p.dialPort === undefined ? {} : { dialPort: port(p.dialPort, `ports[${i}].dialPort`) }),
    };
  });
  const flag = (field: string, fallback: boolean): boolean => {
    const b = v[field] ?? fallback;
    if (typeof b !== 'boolean') throw bad(field, 'must be true or false');
    return b;
  };
  return {
    name: name(wanted, 'name'),
    workload: name(v.workload, 'workload'),
    namespace: name(v.namespace, 'namespace'),
    serviceAccount: name(v.serviceAccount ?? 'default', 'serviceAccount'),
    labels: Object.fromEntries(labels),
    address,
    ...(address6 === undefined ? {} : { address6: canonicalIp(address6) }),
    dialAddress,
    ports,
    injected: flag('injected', true),
    gateway: flag('gateway', false),
    ready: flag('ready', false),
    draining: flag('draining', false),
    weight: weight(v.weight ?? 1),
  };
}
