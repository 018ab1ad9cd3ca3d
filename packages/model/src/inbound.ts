/** What a workload accepts: its ports, and the mTLS mode of each. */
import { create } from '@bufbuild/protobuf';
import { type Inbound, InboundSchema, MtlsMode, type RateLimit, RateLimitSchema } from '@weft/plan';
import { inboundPool } from './clusters.ts';
import { labelsMatch, serviceHost } from './hosts.ts';
import { servicesSelecting } from './lookup.ts';
import { planProtocol, portProtocol } from './protocols.ts';
import type { RefTable } from './refs.ts';
import { sidecarFor } from './scope.ts';
import type { Model } from './types/model.ts';
import type { RateLimitModel } from './types/rate-limit.ts';
import type { Labels } from './types/resource.ts';
import type { Instance } from './types/runtime.ts';
import type { MtlsModeName, PeerAuthenticationModel } from './types/security.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';

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

/** Workload port of a service port on one instance; undefined where the instance has no port of that name. */
export function targetPortOn(port: ServicePortModel, instance: Pick<Instance, 'ports'>): number | undefined {
  if (typeof port.targetPort === 'number') return port.targetPort;
  return instance.ports.find((p) => p.name === port.targetPort)?.number;
}

const MODES = { DISABLE: MtlsMode.DISABLE, PERMISSIVE: MtlsMode.PERMISSIVE, STRICT: MtlsMode.STRICT };

/** The first policy whose Server has the port. */
function rateLimitOf(
  model: Model,
  policies: readonly RateLimitModel[],
  instance: Instance,
  port: number,
  refs: RefTable,
): RateLimit | undefined {
  for (const p of policies) {
    if (p.namespace !== instance.namespace) continue;
    const server = model.servers.find((s) => s.name === p.server && s.namespace === p.namespace);
    if (!server || !labelsMatch(server.selector, instance.labels)) continue;
    const target =
      typeof server.port === 'number' ? server.port : instance.ports.find((x) => x.name === server.port)?.number;
    if (target !== port) continue;
    return create(RateLimitSchema, {
      ref: refs.use(p, 'spec'),
      total: p.total,
      identity: p.identity,
      overrides: p.overrides.map((o) => ({ ...o, accounts: [...o.accounts] })),
    });
  }
  return undefined;
}

/** One entry for each port the workload declares and each port a service sends to it. */
export function compileInbound(model: Model, domain: string, instance: Instance, refs: RefTable): Inbound[] {
  const backing = new Map<number, { service: ServiceModel; port: ServicePortModel }>();
  for (const service of servicesSelecting(model, instance)) {
    for (const port of service.ports) {
      const target = port.transport === 'TCP' ? targetPortOn(port, instance) : undefined;
      if (target !== undefined && !backing.has(target)) backing.set(target, { service, port });
    }
  }
  const sidecar = sidecarFor(model, instance);
  const numbers = sidecar?.ingress
    ? sidecar.ingress.map((i) => i.port)
    : [...instance.ports.map((p) => p.number), ...backing.keys()];
  return [...new Set(numbers)]
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
        rateLimit: rateLimitOf(model, model.httpRateLimits, instance, number, refs),
        connectionLimit: rateLimitOf(model, model.tcpRateLimits, instance, number, refs),
      });
    });
}
