import { hostPort } from '@weft/base';
import type { Snapshot } from '@weft/engine';
import type { ProbedService } from '../link/probe.ts';
import type { MemoryReading } from '../overload/memory.ts';
import type { CertificateView, ProxyState } from '../state.ts';

/** What the balancer thinks of one endpoint now. */
export interface EndpointStatus {
  host: string;
  port: number;
  instance: string;
  /** `ip:port`. */
  address: string;
  ejected: boolean;
  /** It fails its health checks. */
  unhealthy: boolean;
  draining: boolean;
  activeRequests: number;
}

/** What admin, probes, health and metrics may read of a proxy. Nothing in it is a secret and nothing can be changed. */
export interface AdminState
  extends Pick<
    ProxyState,
    'ready' | 'draining' | 'epoch' | 'parts' | 'endpoints' | 'references' | 'certificate' | 'counts' | 'detected'
  > {
  readonly bootstrap: Pick<
    ProxyState['bootstrap'],
    'mesh' | 'instance' | 'trustDomain' | 'capture' | 'address' | 'address6' | 'probes'
  >;
  /** The clock that certificates are judged by. */
  wallMs(): number;
  /** Callers without mTLS. */
  plaintext?(): readonly object[];
  /** Does a handshake with the endpoints of a service; undefined where the plan has no such service. */
  probe?(host: string, port: number): Promise<ProbedService | undefined>;
  /** How full the memory is, and what follows from it. */
  overload?(): { readonly level: number; readonly reading: MemoryReading };
  /** Live state of endpoints; absent where there is no balancer. */
  endpointStatus?(): Iterable<EndpointStatus>;
}

export type { CertificateView };

/** Live state of all endpoints in a plan, from the clusters without a subset (they hold every endpoint of a port). */
export function* endpointStatusOf(snapshot: Snapshot | undefined): Generator<EndpointStatus> {
  for (const { cluster, endpoints } of snapshot?.clusters.values() ?? []) {
    if (cluster.subset !== '') continue;
    for (const { endpoint, state } of endpoints) {
      yield {
        host: cluster.host,
        port: cluster.port,
        instance: endpoint.instance,
        address: hostPort(endpoint.address, endpoint.port),
        ejected: state.ejected,
        unhealthy: state.unhealthy,
        draining: endpoint.draining,
        activeRequests: state.active,
      };
    }
  }
}
