/** Linkerd's Server (its policy: linkerd-policy.ts) and HTTPLocalRateLimitPolicy, and Weft's rate limit of connections in the same shape. */
import { ACCESS_POLICIES, type RateLimitModel, type ServerModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import { type Kind, labelsOf, nonEmpty, type Plain, selector } from './common.ts';
import { rateLimitShared } from './resilience.ts';

const POLICY = 'policy.linkerd.io';

export const serverKind: Kind<ServerModel> = {
  kind: 'Server',
  apiVersions: [`${POLICY}/v1beta3`, `${POLICY}/v1beta2`, `${POLICY}/v1beta1`],
  spec: {
    t: 'object',
    fields: {
      podSelector: selector,
      port: { t: 'intOrString' },
      accessPolicy: {
        t: 'string',
        enum: ACCESS_POLICIES,
      },
      proxyProtocol: { t: 'string', enum: ['unknown', 'HTTP/1', 'HTTP/2', 'gRPC', 'opaque', 'TLS'] },
    },
    required: ['podSelector', 'port'],
    unsupported: ['externalWorkloadSelector'],
  },
  specRequired: true,
  build(resource, spec, report) {
    const protocol = spec.proxyProtocol ?? 'unknown';
    const opaque = protocol === 'opaque' || protocol === 'TLS';
    if (protocol !== 'unknown') {
      const message = 'how a port is read is what the Service declares (appProtocol, or the name of its port)';
      report('WEFT-NO-EFFECT', message, 'spec.proxyProtocol', 'warning');
    }
    if (typeof spec.port === 'number' && (spec.port < 1 || spec.port > 65535))
      report('WEFT-VALUE', `is ${spec.port}, which is no port`, 'spec.port');
    return {
      ...resource,
      selector: labelsOf(spec.podSelector?.matchLabels),
      port: spec.port ?? 0,
      accessPolicy: spec.accessPolicy ?? 'deny',
      opaque,
    };
  },
};

const targetRef: ObjectSchema = {
  t: 'object',
  fields: { group: { t: 'string', enum: [POLICY] }, kind: { t: 'string', enum: ['Server'] }, name: nonEmpty },
  required: ['group', 'kind', 'name'],
};

const clientRef: ObjectSchema = {
  t: 'object',
  fields: {
    group: { t: 'string', enum: ['', 'core'] },
    kind: { t: 'string', enum: ['ServiceAccount'] },
    name: nonEmpty,
    namespace: nonEmpty,
  },
  required: ['kind', 'name'],
};

const rate: Schema = { t: 'int', min: 1, max: 1_000_000 };

/** Both kinds differ in the name of the rate alone. */
function rateLimitKind(kind: string, apiVersion: string, unit: string): Kind<RateLimitModel> {
  const limit: ObjectSchema = { t: 'object', fields: { [unit]: rate }, required: [unit] };
  return {
    kind,
    apiVersions: [apiVersion],
    spec: {
      t: 'object',
      fields: {
        targetRef,
        total: limit,
        identity: limit,
        overrides: {
          t: 'list',
          max: 1000,
          of: {
            t: 'object',
            fields: { [unit]: rate, clientRefs: { t: 'list', of: clientRef, min: 1, max: 1000 } },
            required: [unit, 'clientRefs'],
          },
        },
      },
      required: ['targetRef'],
    },
    specRequired: true,
    build(resource, spec, report) {
      const total: number = spec.total?.[unit] ?? 0;
      const identity: number = spec.identity?.[unit] ?? 0;
      const overrides = ((spec.overrides ?? []) as Plain[]).filter((o) => o?.[unit] && o.clientRefs);
      if (!spec.total && !spec.identity && overrides.length === 0)
        report('WEFT-VALUE', 'limits nothing: set total, identity or overrides', 'spec');
      if (total > 0 && identity > total)
        report('WEFT-VALUE', `is ${identity}, more than the total of ${total}`, `spec.identity.${unit}`);
      for (const [i, o] of overrides.entries()) {
        if (total > 0 && o[unit] > total)
          report('WEFT-VALUE', `is ${o[unit]}, more than the total of ${total}`, `spec.overrides[${i}].${unit}`);
      }
      return {
        ...resource,
        server: spec.targetRef?.name ?? '',
        total,
        identity,
        shared: rateLimitShared(resource.annotations, report),
        overrides: overrides.map((o) => ({
          requestsPerSecond: o[unit] as number,
          accounts: (o.clientRefs as Plain[])
            .filter((c) => c?.name)
            .map((c) => ({ namespace: (c.namespace ?? resource.namespace) as string, name: c.name as string })),
        })),
      };
    },
  };
}

export const httpRateLimitKind = rateLimitKind('HTTPLocalRateLimitPolicy', `${POLICY}/v1alpha1`, 'requestsPerSecond');
export const tcpRateLimitKind = rateLimitKind('TCPLocalRateLimitPolicy', 'weft.dev/v1alpha1', 'connectionsPerSecond');
