/** What gateways say of their visitors' certificates (x-forwarded-client-cert), and which workloads believe it. */
import { ForwardClientCert } from '@weft/plan';
import { gatewaysOf } from './gateway.ts';
import { spiffeId } from './hosts.ts';
import { perModel } from './lookup.ts';
import { type ClientCertDetails, meshConfigOf } from './mesh-config.ts';
import type { GatewayTlsMode } from './types/gateway.ts';
import type { Model } from './types/model.ts';
import type { ProcessModel } from './types/process.ts';

const IN_PLANS: Readonly<Record<ClientCertDetails, ForwardClientCert>> = {
  SANITIZE: ForwardClientCert.UNSPECIFIED,
  FORWARD_ONLY: ForwardClientCert.FORWARD_ONLY,
  APPEND_FORWARD: ForwardClientCert.APPEND_FORWARD,
  SANITIZE_SET: ForwardClientCert.SANITIZE_SET,
  ALWAYS_FORWARD_ONLY: ForwardClientCert.ALWAYS_FORWARD_ONLY,
};

const ASKING: ReadonlySet<GatewayTlsMode> = new Set(['MUTUAL', 'OPTIONAL_MUTUAL']);

/** The workload's own setting, else the mesh's, else SANITIZE_SET; of what is no gateway nothing is asked. */
export function forwardClientCertOf(model: Model, process: ProcessModel): ForwardClientCert {
  if (!process.gateway) return ForwardClientCert.UNSPECIFIED;
  const said = process.proxy?.clientCertDetails ?? meshConfigOf(model)?.proxy.clientCertDetails;
  return IN_PLANS[said ?? 'SANITIZE_SET'];
}

/** Gateways that have something to say: they ask for certificates, or pass on whatever comes. Nobody else is believed. */
const tellers = perModel((model): readonly ProcessModel[] =>
  model.processes.filter((process) => {
    const how = forwardClientCertOf(model, process);
    if (how === ForwardClientCert.UNSPECIFIED) return false;
    if (how === ForwardClientCert.ALWAYS_FORWARD_ONLY) return true;
    return gatewaysOf(model, process).some((g) => g.servers.some(({ tls }) => tls && ASKING.has(tls.mode)));
  }),
);

/** SPIFFE ids whose x-forwarded-client-cert reaches applications, sorted. */
export function certificateTellers(model: Model, trustDomain: string): string[] {
  const ids = tellers(model).map((p) => spiffeId(trustDomain, p.namespace, p.serviceAccountName));
  return [...new Set(ids)].sort();
}
