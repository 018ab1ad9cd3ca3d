/** `weft.dev/v1alpha1 HealthCheck`: endpoints of a service are asked from time to time, by each client's proxy. */
import type { HealthCheckModel } from '@weft/model';
import { checkHeaderName, checkHost, type Kind, nonEmpty, percent, port, str } from './common.ts';

/** The defaults are those of Kuma's MeshHealthCheck. */
const DEFAULTS = { intervalMs: 60_000, timeoutMs: 15_000, unhealthyThreshold: 5, healthyThreshold: 1 };
const DEFAULT_JITTER_PERCENT = 10;

export const healthCheckKind: Kind<HealthCheckModel> = {
  kind: 'HealthCheck',
  apiVersions: ['weft.dev/v1alpha1'],
  spec: {
    t: 'object',
    fields: {
      host: { t: 'string', check: checkHost },
      port,
      interval: { t: 'duration', minMs: 1000 },
      timeout: { t: 'duration', minMs: 1 },
      unhealthyThreshold: { t: 'int', min: 1, max: 1000 },
      healthyThreshold: { t: 'int', min: 1, max: 1000 },
      intervalJitterPercent: percent,
      healthyPanicThreshold: percent,
      http: {
        t: 'object',
        fields: {
          path: { t: 'string', check: (v) => (/^\/[!-~]*$/.test(v) ? undefined : 'a path begins with "/"') },
          expectedStatuses: { t: 'list', of: { t: 'int', min: 100, max: 599 }, min: 1, max: 100 },
          headers: { t: 'map', of: { t: 'string' }, checkKey: checkHeaderName },
        },
      },
      tcp: { t: 'object', fields: {} },
      grpc: { t: 'object', fields: { serviceName: str, authority: nonEmpty } },
    },
    required: ['host'],
    oneOf: [['http', 'tcp', 'grpc']],
  },
  specRequired: true,
  build(resource, spec, report) {
    if (!spec.http && !spec.tcp && !spec.grpc && !['http', 'tcp', 'grpc'].some((f) => report.broken(`spec.${f}`)))
      report('WEFT-VALUE', 'says nothing to ask: set http, tcp or grpc', 'spec');
    return {
      ...resource,
      host: spec.host ?? '',
      port: spec.port ?? 0,
      intervalMs: spec.interval ?? DEFAULTS.intervalMs,
      timeoutMs: spec.timeout ?? DEFAULTS.timeoutMs,
      unhealthyThreshold: spec.unhealthyThreshold ?? DEFAULTS.unhealthyThreshold,
      healthyThreshold: spec.healthyThreshold ?? DEFAULTS.healthyThreshold,
      jitterPercent: spec.intervalJitterPercent ?? DEFAULT_JITTER_PERCENT,
      panicPercent: spec.healthyPanicThreshold ?? 0,
      check: spec.tcp
        ? { kind: 'tcp' }
        : spec.grpc
          ? { kind: 'grpc', service: spec.grpc.serviceName ?? '', authority: spec.grpc.authority ?? '' }
          : {
              kind: 'http',
              path: spec.http?.path ?? '/',
              statuses: spec.http?.expectedStatuses ?? [200],
              headers: Object.entries((spec.http?.headers ?? {}) as Record<string, string>).map(([name, value]) => ({
                name: name.toLowerCase(),
                value,
              })),
            },
    };
  },
};
