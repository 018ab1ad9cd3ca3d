/** What a workload accepts: its ports, and the mTLS mode of each. */
import { create } from '@bufbuild/protobuf';
import { type Inbound, InboundSchema, MtlsMode } from '@weft/plan';
import { inboundPool } from './clusters.ts';
import { labelsMatch, serviceHost } from './hosts.ts';
import { backingPorts, inboundPorts } from './inbound-ports.ts';
import { planProtocol, portProtocol } from './protocols.ts';
import { compileRateLimit } from './rate-limits.ts';
import type { RefTable } from './refs.ts';
import { sidecarFor } from './scope.ts';
import type { Model } from './types/model.ts';
import type { Labels } from './types/resource.ts';
import type { Instance, MeshRuntime } from './types/runtime.ts';
import type { MtlsModeName, PeerAuthenticationModel } from './types/security.ts';

export interface MtlsDecision {
  readonly mode: Exclude<MtlsModeName, 'UNSET'>;
  /** Undefined for the default of the mesh, PERMISSIVE. */
  readonly policy: PeerAuthenticationModel | undefined;
  readonly field: string;
}

/**
 * The mTLS mode of one workload port. Port > workload > namespace > mesh (root namespace); UNSET inherits; of several
 * at one level the oldest counts: the model's order.
 */
export function mtlsFor(model: Model, workload: { namespace: string; labels: Labels }, port: number): MtlsDecision {
  const hasSelector = (p: PeerAuthenticationModel) => p.selector !== undefined && Object.keys(p.selector).length > 0;
  const all = model.peerAuthentications;
  const own = all.find(
    (p) => p.namespace === workload.namespace && hasSelector(p) && labelsMatch(p.selector ?? {}, workload.labels),
  );
  const namespace = all.find((p) => p.namespace === workload.namespace && !hasSelector(p));
  const mesh = all.find((p) => p.namespace === model.rootNamespace && !hasSelector(p));
  const ofPort = own?.portLevel.get(port);
  if (own && ofPort && ofPort !== 'UNSET') {
    return { mode: ofPort, policy: own, field: `spec.portLevelMtls.${port}.mode` };
  }
  for (const policy of [own, namespace, mesh]) {
    if (policy && policy.mode !== 'UNSET') return { mode: policy.mode, policy, field: 'spec.mtls.mode' };
  }
  return { mode: 'PERMISSIVE', policy: undefined, field: '' };
}

const MODES = { DISABLE: MtlsMode.DISABLE, PERMISSIVE: MtlsMode.PERMISSIVE, STRICT: MtlsMode.STRICT };

/** One entry for each port the workload declares and each port a service sends to it. */
export function compileInbound(model: Model, runtime: MeshRuntime, instance: Instance, refs: RefTable): Inbound[] {
  const { domain, instances } = runtime;
  const limit = { model, instances, instance, refs };
  const backing = backingPorts(model, instance);
  const sidecar = sidecarFor(model, instance);
  return [...inboundPorts(model, instance)]
    .sort((a, b) => a - b)
    .map((number) => {
      const declared = instance.ports.find((p) => p.number === number);
      const back = backing.get(number);
      const ingress = sidecar?.ingress?.find((i) => i.port === number);
      const pool = ingress?.pool ?? sidecar?.inboundPool;
      const at = ingress?.endpoint?.port ?? number;
      const protocol = ingress
        ? ingress.protocol
        : back && back.port.protocol !== 'detect'
          ? back.port.protocol
          : (declared?.protocol ?? portProtocol(undefined, declared?.name, number));
      const mtls = mtlsFor(model, instance, number);
      return create(InboundSchema, {
        port: number,
        protocol: planProtocol(protocol),
        mtls: MODES[mtls.mode],
        mtlsRef: mtls.policy ? refs.use(mtls.policy, mtls.field) : '',
        serviceHost: back ? serviceHost(back.service, domain) : '',
        serviceName: back?.service.name ?? '',
        serviceNamespace: back?.service.namespace ?? '',
        servicePort: back?.port.port ?? 0,
        dialAddress: ingress?.endpoint?.loopback ? '127.0.0.1' : instance.dialAddress,
        dialPort: instance.ports.find((p) => p.number === at)?.dialPort ?? at,
        pool: pool && inboundPool(pool),
        rateLimit: compileRateLimit(limit, model.httpRateLimits, number),
        connectionLimit: compileRateLimit(limit, model.tcpRateLimits, number),
      });
    });
}
