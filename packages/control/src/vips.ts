/** Virtual addresses of services: the same service keeps its address, also across restarts. */
import { canonicalIp, WeftError } from '@weft/base';
import { type IpFamily, type Model, type ServiceModel, serviceHost } from '@weft/model';

/** Class E is routed by nobody, so that it meets no real address. In explicit mode loopback, which anyone may bind. */
const PREFIX = { transparent: '240.240', explicit: '127.65' } as const;
/** A block for measurements, which is routed by nobody either: it takes the IPv4 address as its last 32 bits. */
const PREFIX6 = '2001:2::';
const HOSTS = 256 * 254; // third number 0–255, fourth 1–254

function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export interface VipOptions {
  capture: 'transparent' | 'explicit';
  domain: string;
  prefix?: string;
}

/** What was given, of one family. */
function given(service: ServiceModel, family: IpFamily): string[] {
  const all = service.clusterIPs ?? (service.clusterIP ? [service.clusterIP] : []);
  return all.filter((a) => a.includes(':') === (family === 6)).map(canonicalIp);
}

/** Explicit mode's addresses are those of the loopback network, of which IPv6 has one alone. */
function familiesOf(service: ServiceModel, capture: VipOptions['capture']): readonly IpFamily[] {
  if (capture === 'explicit') return [4];
  if (service.families) return service.families;
  return service.clusterIP?.includes(':') ? [6] : [4];
}

/** The IPv6 address that goes with an allocated IPv4 one. */
function mapped(address: string): string {
  const [a, b, c, d] = address.split('.').map(Number) as [number, number, number, number];
  return canonicalIp(`${PREFIX6}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`);
}

/**
 * Addresses of all services of the model by host. `stored` (host → allocated address) is added to; addresses of services
 * that are gone stay reserved until half of the range is in use, so that a caller with an old answer meets nobody else.
 * Returns whether `stored` changed.
 */
export function allocateVips(
  model: Model,
  stored: Map<string, string>,
  options: VipOptions,
): { vips: Map<string, string[]>; changed: boolean } {
  const prefix = options.prefix ?? PREFIX[options.capture];
  const vips = new Map<string, string[]>();
  let changed = false;
  const live = new Set(model.services.map((s) => serviceHost(s, options.domain)));
  if (stored.size > HOSTS / 2) {
    for (const host of stored.keys()) if (!live.has(host)) changed = stored.delete(host) || changed;
  }
  const used = new Set(stored.values());
  for (const service of model.services) {
    for (const address of service.clusterIPs ?? (service.clusterIP ? [service.clusterIP] : [])) used.add(address);
  }
  for (const service of model.services) {
    const host = serviceHost(service, options.domain);
    const allocated = (): string => {
      let address = stored.get(host);
      if (!address?.startsWith(`${prefix}.`)) {
        address = free(host, prefix, used);
        used.add(address);
        stored.set(host, address);
        changed = true;
      }
      return address;
    };
    const addresses: string[] = [];
    for (const family of service.headless ? [] : familiesOf(service, options.capture)) {
      // A given one cannot be bound on loopback.
      const own = options.capture === 'explicit' ? [] : given(service, family);
      if (own.length > 0) addresses.push(...own);
      else addresses.push(family === 6 ? mapped(allocated()) : allocated());
    }
    vips.set(host, addresses);
  }
  return { vips, changed };
}

function free(host: string, prefix: string, used: ReadonlySet<string>): string {
  const start = fnv1a(host) % HOSTS;
  for (let i = 0; i < HOSTS; i++) {
    const n = (start + i) % HOSTS;
    const address = `${prefix}.${Math.floor(n / 254)}.${(n % 254) + 1}`;
    if (!used.has(address)) return address;
  }
  throw new WeftError('control/no-vip', `no virtual address is free in ${prefix}.0.0/16: ${HOSTS} are in use`);
}
