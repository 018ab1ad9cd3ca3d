/** Istio's Sidecar: which services a workload is told of, and what becomes of calls to unknown places. */
import type { SidecarModel } from '@weft/model';
import type { Schema } from '../schema.ts';
import { checkHost, checkLabelName, type Kind, labels, labelsOf, type Plain } from './common.ts';
import { NETWORKING } from './networking.ts';

const egressHost: Schema = {
  t: 'string',
  check: (v) => {
    const [namespace, name, more] = v.split('/');
    const scope = ['*', '.', '~'].includes(namespace) || checkLabelName(namespace) === undefined;
    const host = name === '*' || (name !== undefined && checkHost(name) === undefined);
    return scope && host && more === undefined
      ? undefined
      : 'it is namespace/host: a namespace, ".", "~" or "*", then a host, "*.suffix" or "*"';
  },
};

export const sidecarKind: Kind<SidecarModel> = {
  kind: 'Sidecar',
  apiVersions: NETWORKING,
  specRequired: false,
  spec: {
    t: 'object',
    fields: {
      workloadSelector: { t: 'object', fields: { labels } },
      egress: {
        t: 'list',
        max: 100,
        of: {
          t: 'object',
          fields: { hosts: { t: 'list', min: 1, max: 1000, of: egressHost } },
          required: ['hosts'],
          unsupported: ['port', 'bind', 'captureMode'],
        },
      },
      outboundTrafficPolicy: {
        t: 'object',
        fields: { mode: { t: 'string', enum: ['REGISTRY_ONLY', 'ALLOW_ANY'] } },
        unsupported: ['egressProxy'],
      },
    },
    unsupported: ['ingress', 'inboundConnectionPool'],
  },
  build(resource, spec) {
    const written = spec.egress as (Plain | undefined)[] | undefined;
    const hosts = (written ?? []).flatMap((e) => (e?.hosts ?? []) as (string | undefined)[]);
    const mode = spec.outboundTrafficPolicy?.mode;
    return {
      ...resource,
      workloadSelector: spec.workloadSelector?.labels ? labelsOf(spec.workloadSelector.labels) : undefined,
      egress:
        written &&
        hosts.flatMap((text) => {
          const [scope, host] = (text ?? '').split('/');
          if (host === undefined || scope === '~') return [];
          return [{ namespace: scope, host: host.toLowerCase() }];
        }),
      registryOnly: mode === undefined ? undefined : mode === 'REGISTRY_ONLY',
    };
  },
};
