/** Istio's Sidecar: which services a workload is told of, what becomes of calls to unknown places, and what it takes. */
import { protocolNamed, type SidecarIngressModel, type SidecarModel } from '@weft/model';
import type { Schema } from '../schema.ts';
import {
  checkHost,
  checkLabelName,
  type FieldReport,
  type Kind,
  labels,
  labelsOf,
  type Plain,
  port,
  str,
} from './common.ts';
import { connectionPool, poolOf } from './connection-pool.ts';
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

const sidecarPort: Record<string, Schema> = {
  number: port,
  name: str,
  protocol: {
    t: 'string',
    check: (v) => (protocolNamed(v) ? undefined : 'it may be HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, MONGO or TCP'),
  },
};

/** How a listener gets its traffic: there is one way in each mesh. */
const captureMode: Schema = { t: 'string', enum: ['DEFAULT', 'IPTABLES'] };

function endpointOf(text: string): SidecarIngressModel['endpoint'] {
  const [, host, number] = /^(127\.0\.0\.1|0\.0\.0\.0):(\d{1,5})$/.exec(text) ?? [];
  const to = Number(number);
  return to >= 1 && to <= 65535 ? { loopback: host === '127.0.0.1', port: to } : undefined;
}

function ingressOf(written: (Plain | undefined)[], report: FieldReport): SidecarIngressModel[] {
  const list: SidecarIngressModel[] = [];
  for (const [i, e] of written.entries()) {
    const number = e?.port?.number as number | undefined;
    const protocol = protocolNamed(e?.port?.protocol ?? '');
    if (!e || number === undefined || !protocol) continue;
    const field = `spec.ingress[${i}]`;
    const at = `${field}.port.number`;
    if (number >= 15000 && number <= 15099) {
      report('WEFT-VALUE', `the port ${number} is the proxy's (15000 to 15099): take another`, at);
    }
    if (list.some((other) => other.port === number)) report('WEFT-VALUE', `the port ${number} is there twice`, at);
    list.push({
      field,
      port: number,
      protocol,
      endpoint: endpointOf(e.defaultEndpoint ?? ''),
      pool: e.connectionPool && poolOf(e.connectionPool),
    });
  }
  return list;
}

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
          fields: {
            hosts: { t: 'list', min: 1, max: 1000, of: egressHost },
            port: { t: 'object', fields: sidecarPort, required: ['number'] },
            captureMode,
          },
          required: ['hosts'],
          unsupported: ['bind'],
        },
      },
      ingress: {
        t: 'list',
        max: 100,
        of: {
          t: 'object',
          fields: {
            port: { t: 'object', fields: sidecarPort, required: ['number', 'protocol'] },
            defaultEndpoint: {
              t: 'string',
              check: (v) =>
                endpointOf(v) ? undefined : "it is 127.0.0.1:PORT, or 0.0.0.0:PORT for the workload's own address",
            },
            connectionPool,
            captureMode,
          },
          required: ['port'],
          unsupported: ['bind', 'tls'],
        },
      },
      inboundConnectionPool: connectionPool,
      outboundTrafficPolicy: {
        t: 'object',
        fields: { mode: { t: 'string', enum: ['REGISTRY_ONLY', 'ALLOW_ANY'] } },
        unsupported: ['egressProxy'],
      },
    },
  },
  build(resource, spec, report) {
    const written = spec.egress as (Plain | undefined)[] | undefined;
    const hosts = (written ?? []).flatMap((e) =>
      ((e?.hosts ?? []) as (string | undefined)[]).map((text) => ({ text, port: (e?.port?.number ?? 0) as number })),
    );
    const mode = spec.outboundTrafficPolicy?.mode;
    return {
      ...resource,
      workloadSelector: spec.workloadSelector?.labels ? labelsOf(spec.workloadSelector.labels) : undefined,
      egress:
        written &&
        hosts.flatMap(({ text, port }) => {
          const [scope, host] = (text ?? '').split('/');
          if (host === undefined || scope === '~') return [];
          return [{ namespace: scope, host: host.toLowerCase(), port }];
        }),
      ingress: spec.ingress && ingressOf(spec.ingress, report),
      inboundPool: spec.inboundConnectionPool && poolOf(spec.inboundConnectionPool),
      registryOnly: mode === undefined ? undefined : mode === 'REGISTRY_ONLY',
    };
  },
};
