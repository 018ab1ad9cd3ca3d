/** Which health check holds for a service port. */
import { create } from '@bufbuild/protobuf';
import { type HealthCheck, HealthCheckSchema, Protocol } from '@weft/plan';
import { resolveHost } from './hosts.ts';
import { planProtocol } from './protocols.ts';
import type { RefTable } from './refs.ts';
import type { Model } from './types/model.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';
import type { HealthCheckModel } from './types/weft.ts';

/** Connections can be asked of opaque ports alone, requests of the others: what a port may hold decides what is told of it. */
export function canCheck(check: HealthCheckModel, port: ServicePortModel): boolean {
  const protocol = planProtocol(port.protocol);
  const opaque = protocol === Protocol.TCP || protocol === Protocol.TLS;
  return (check.check.kind === 'tcp') === opaque;
}

/**
 * One of the client's namespace goes before one of the service's, and that before one of the root namespace; there one that
 * names the port goes first, then the first in the order of files.
 */
export function healthCheckOf(
  model: Model,
  clientNamespace: string,
  service: ServiceModel,
  host: string,
  port: ServicePortModel,
  refs: RefTable,
): HealthCheck | undefined {
  for (const namespace of new Set([clientNamespace, service.namespace, model.rootNamespace])) {
    const own = model.healthChecks.filter(
      (c) =>
        c.namespace === namespace &&
        (c.port === 0 || c.port === port.port) &&
        canCheck(c, port) &&
        resolveHost(c.host, c.namespace, model.domain) === host,
    );
    const found = own.find((c) => c.port > 0) ?? own[0];
    if (found) return checkPart(found, refs.use(found, 'spec'));
  }
  return undefined;
}

function checkPart(c: HealthCheckModel, ref: string): HealthCheck {
  const { intervalMs, timeoutMs, unhealthyThreshold, healthyThreshold, jitterPercent, panicPercent } = c;
  const common = { ref, intervalMs, timeoutMs, unhealthyThreshold, healthyThreshold, jitterPercent, panicPercent };
  const { check } = c;
  switch (check.kind) {
    case 'http': {
      const { path, statuses, headers } = check;
      const value = { path, statuses: [...statuses], headers: headers.map((h) => ({ ...h })) };
      return create(HealthCheckSchema, { ...common, check: { case: 'http', value } });
    }
    case 'tcp':
      return create(HealthCheckSchema, { ...common, check: { case: 'tcp', value: {} } });
    default: {
      const { service, authority } = check;
      return create(HealthCheckSchema, { ...common, check: { case: 'grpc', value: { service, authority } } });
    }
  }
}
