/** Kubernetes' EndpointSlice: where a Service without a selector leads. */
import type { EndpointSliceModel } from '@weft/model';
import type { Schema } from '../schema.ts';
import { bool, isIpv4, isIpv6, type Kind, nonEmpty, type Plain, port, str } from './common.ts';

const SERVICE_NAME = 'kubernetes.io/service-name';
const any: Schema = { t: 'any' };

export const endpointSliceKind: Kind<EndpointSliceModel> = {
  kind: 'EndpointSlice',
  apiVersions: ['discovery.k8s.io/v1', 'discovery.k8s.io/v1beta1'],
  spec: undefined,
  specRequired: false,
  top: {
    fields: {
      addressType: { t: 'string', enum: ['IPv4', 'IPv6'] },
      endpoints: {
        t: 'list',
        max: 1000,
        of: {
          t: 'object',
          fields: {
            addresses: {
              t: 'list',
              min: 1,
              max: 100,
              of: { t: 'string', check: (v) => (isIpv4(v) || isIpv6(v) ? undefined : 'it is no IP address') },
            },
            conditions: { t: 'object', fields: { ready: bool, serving: bool, terminating: bool } },
            hostname: nonEmpty,
            zone: str,
            nodeName: any,
            hints: any,
            targetRef: {
              t: 'object',
              fields: { kind: str, namespace: str, name: str, uid: any, resourceVersion: any },
            },
            deprecatedTopology: any,
          },
          required: ['addresses'],
        },
      },
      ports: {
        t: 'list',
        max: 100,
        of: {
          t: 'object',
          fields: { name: str, port, protocol: { t: 'string', enum: ['TCP', 'UDP', 'SCTP'] }, appProtocol: str },
          required: ['port'],
        },
      },
    },
  },
  build(resource, read, report) {
    const service = resource.labels[SERVICE_NAME] ?? '';
    if (service === '') {
      const message = `says not of which Service it is: set the label ${SERVICE_NAME}`;
      report('WEFT-FIELD', message, 'metadata.labels');
    }
    const written = ((read.endpoints ?? []) as (Plain | undefined)[]).filter((e) => e !== undefined);
    const ports = ((read.ports ?? []) as (Plain | undefined)[]).filter((p) => p && (p.protocol ?? 'TCP') === 'TCP');
    return {
      ...resource,
      service,
      ports: new Map(ports.map((p) => [p?.name ?? '', p?.port ?? 0])),
      endpoints: written.map((e) => ({
        name: e.targetRef?.name ?? e.hostname ?? '',
        addresses: ((e.addresses ?? []) as (string | undefined)[]).filter((a) => a !== undefined),
        // What is not said is ready (Kubernetes).
        ready: (e.conditions?.ready ?? true) && !e.conditions?.terminating,
        draining: (e.conditions?.terminating ?? false) && (e.conditions?.serving ?? false),
        zone: e.zone ?? '',
      })),
    };
  },
};
