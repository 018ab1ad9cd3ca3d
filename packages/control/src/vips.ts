/** Virtual addresses of services: the same service keeps its address, also across restarts. */
import { WeftError } from '@weft/base';
import { type Model, type ServiceModel, serviceHost } from '@weft/model';

/** Class E is routed by nobody, so that it meets no real address. In explicit mode loopback, which anyone may bind. */
const PREFIX = { transparent: '240.240', explicit: '127.65' } as const;
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

/** Whether the service gets an address of ours: not headless, and none was given (a given one cannot be bound on loopback). */
function wantsVip(service: ServiceModel, capture: VipOptions['capture']): boolean {
  return !service.headless && (capture === 'explicit' || !service.clusterIP);
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
  for (const service of model.services) if (service.clusterIP) used.add(service.clusterIP);
  for (const service of model.services) {
    const host = serviceHost(service, options.domain);
    if (service.headless) {
      vips.set(host, []);
    } else if (!wantsVip(service, options.capture)) {
      vips.set(host, [service.clusterIP as string]);
    } else {
      let address = stored.get(host);
      if (!address?.startsWith(`${prefix}.`)) {
        address = free(host, prefix, used);
        used.add(address);
        stored.set(host, address);
        changed = true;
      }
      vips.set(host, [address]);
    }
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
