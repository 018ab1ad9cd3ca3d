/** A port of the workload as the plan in force describes it: what does not change from request to request. */
import { hostPort } from '@weft/base';
import { findInbound, type RateLimitView, type Snapshot } from '@weft/engine';
import { type Inbound, Protocol } from '@weft/plan';
import type { ServiceInfo } from '../observe/types.ts';

export interface InboundPort {
  readonly port: number;
  /** The plan's entry for this port or, where it has none, for all others; else one that says nothing. */
  readonly inbound: Inbound;
  /** The plan names this port. */
  readonly declared: boolean;
  readonly service: ServiceInfo;
  readonly cluster: string;
  /** Where the application listens. */
  readonly host: string;
  readonly dialPort: number;
  readonly upstreamHost: string;
  readonly rateLimit: RateLimitView | undefined;
}

/** All ports of one workload. */
export class InboundPorts {
  readonly #address: string;
  #snapshot: Snapshot | undefined;
  readonly #declared = new Map<number, InboundPort>();

  /** `address`: the workload's own. */
  constructor(address: string) {
    this.#address = address;
  }

  at(snapshot: Snapshot, port: number): InboundPort {
    if (snapshot !== this.#snapshot) {
      this.#snapshot = snapshot;
      this.#declared.clear();
    }
    const known = this.#declared.get(port);
    if (known) return known;
    const inbound = findInbound(snapshot, port) ?? undeclared(port);
    const declared = snapshot.inbound.has(port);
    const host = inbound.dialAddress || this.#address;
    const dialPort = inbound.dialPort || port;
    const made: InboundPort = {
      ...{ port, inbound, declared, service: inboundService(inbound), cluster: `inbound|${port}||`, host, dialPort },
      ...{ upstreamHost: hostPort(host, dialPort), rateLimit: snapshot.rateLimits.get(inbound.port) },
    };
    // Others are as many as somebody likes to ask for.
    if (declared) this.#declared.set(port, made);
    return made;
  }
}

const services = new WeakMap<Inbound, ServiceInfo>();

export function inboundService(inbound: Inbound): ServiceInfo {
  let info = services.get(inbound);
  if (!info) {
    info = {
      host: inbound.serviceHost,
      name: inbound.serviceName,
      namespace: inbound.serviceNamespace,
      port: inbound.servicePort,
    };
    services.set(inbound, info);
  }
  return info;
}

const undeclaredPorts = new Map<number, Inbound>();

/** A port that the plan does not know: the workload's own address, detected protocol. */
export function undeclared(port: number): Inbound {
  let inbound = undeclaredPorts.get(port);
  if (!inbound) {
    inbound = {
      $typeName: 'weft.plan.v1.Inbound',
      port,
      protocol: Protocol.UNSPECIFIED,
      mtls: 0,
      mtlsRef: '',
      serviceHost: '',
      serviceName: '',
      serviceNamespace: '',
      servicePort: 0,
      dialAddress: '',
      dialPort: 0,
    } as Inbound;
    undeclaredPorts.set(port, inbound);
  }
  return inbound;
}
