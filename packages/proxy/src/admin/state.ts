import type { CertificateView, ProxyState } from '../state.ts';

/** What the balancer thinks of one endpoint now. */
export interface EndpointStatus {
  host: string;
  port: number;
  instance: string;
  /** `ip:port`. */
  address: string;
  ejected: boolean;
  draining: boolean;
  activeRequests: number;
}

/** What admin, probes, health and metrics may read of a proxy. Nothing in it is a secret and nothing can be changed. */
export interface AdminState
  extends Pick<
    ProxyState,
    'ready' | 'draining' | 'epoch' | 'parts' | 'endpoints' | 'references' | 'certificate' | 'counts'
  > {
  readonly bootstrap: Pick<
    ProxyState['bootstrap'],
    'mesh' | 'instance' | 'trustDomain' | 'capture' | 'address' | 'probes'
  >;
  /** Live state of endpoints; absent where there is no balancer. */
  endpointStatus?(): Iterable<EndpointStatus>;
}

export type { CertificateView };
