/** Istio's WorkloadGroup: what workloads without a platform are like that join the mesh one by one. */
import type { ProbeAction, ProbeModel, WorkloadGroupModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import {
  annotations,
  checkHeaderName,
  checkName,
  type FieldReport,
  type Kind,
  labels,
  labelsOf,
  nonEmpty,
  type Plain,
  port,
  str,
  strings,
} from './common.ts';
import { NETWORKING } from './networking.ts';

const VALUE = 'WEFT-VALUE';

const seconds = (min: number): Schema => ({ t: 'int', min, max: 86_400 });
const itself: Schema = {
  t: 'string',
  check: (v) =>
    v === '127.0.0.1' || v === 'localhost' || v === '::1'
      ? undefined
      : 'it is the workload itself that is asked: leave it out, or say 127.0.0.1',
};

/** As the readiness probe of a Pod, with numbers for ports. */
const probe: ObjectSchema = {
  t: 'object',
  fields: {
    initialDelaySeconds: seconds(0),
    timeoutSeconds: seconds(0),
    periodSeconds: seconds(0),
    successThreshold: { t: 'int', min: 0, max: 1000 },
    failureThreshold: { t: 'int', min: 0, max: 100_000 },
    httpGet: {
      t: 'object',
      fields: {
        path: { t: 'string', check: (v) => (v.startsWith('/') ? undefined : 'a path begins with "/"') },
        port,
        host: itself,
        scheme: { t: 'string', enum: ['HTTP', 'HTTPS'] },
        httpHeaders: {
          t: 'list',
          max: 100,
          of: {
            t: 'object',
            fields: { name: { t: 'string', check: (v) => checkHeaderName(v) }, value: str },
            required: ['name'],
          },
        },
      },
      required: ['port'],
    },
    tcpSocket: { t: 'object', fields: { host: itself, port }, required: ['port'] },
    exec: { t: 'object', fields: { command: { ...strings, min: 1 } as Schema }, required: ['command'] },
    grpc: { t: 'object', fields: { port, service: str }, required: ['port'] },
  },
  oneOf: [['httpGet', 'tcpSocket', 'exec', 'grpc']],
};

export const workloadGroupKind: Kind<WorkloadGroupModel> = {
  kind: 'WorkloadGroup',
  apiVersions: NETWORKING,
  specRequired: true,
  spec: {
    t: 'object',
    fields: {
      metadata: { t: 'object', fields: { labels, annotations } },
      template: {
        t: 'object',
        fields: {
          ports: { t: 'map', of: port, checkKey: (k) => (checkName(k) ? 'is no port name' : undefined) },
          labels,
          locality: { t: 'string', check: checkLocality },
          serviceAccount: nonEmpty,
        },
        unsupported: ['address', 'network', 'weight'],
      },
      probe,
    },
    required: ['template'],
  },
  build(resource, spec, report) {
    const template = (spec.template ?? {}) as Plain;
    const members = { ...labelsOf(spec.metadata?.labels), ...labelsOf(template.labels) };
    if (Object.keys(members).length === 0 && !['spec.metadata.labels', 'spec.template.labels'].some(report.broken))
      report('WEFT-NO-EFFECT', 'without labels no service selects its workloads', 'spec.template', 'warning');
    for (const name of Object.keys((spec.metadata?.annotations ?? {}) as Plain))
      report('WEFT-NO-EFFECT', 'nothing reads it here', `spec.metadata.annotations.${name}`, 'warning');
    return {
      ...resource,
      // A label's value has no slash: dots stand for them, as in Istio.
      members: template.locality ? { 'istio-locality': template.locality.replaceAll('/', '.'), ...members } : members,
      ports: new Map(Object.entries((template.ports ?? {}) as Record<string, number>)),
      serviceAccount: template.serviceAccount ?? 'default',
      probe: spec.probe ? probeOf(spec.probe, report) : undefined,
    };
  },
};

function checkLocality(value: string): string | undefined {
  return /^[A-Za-z0-9-]+(\/[A-Za-z0-9-]+){0,2}$/.test(value) ? undefined : 'a locality is region/zone/subzone';
}

/** Istio's defaults; 0 stands for them too. */
function probeOf(p: Plain, report: FieldReport): ProbeModel | undefined {
  const action = actionOf(p);
  if (!action) {
    const said = ['httpGet', 'tcpSocket', 'exec', 'grpc'].some((f) => report.broken(`spec.probe.${f}`));
    if (!said) report(VALUE, 'a probe needs one of httpGet, tcpSocket, exec, grpc', 'spec.probe');
    return undefined;
  }
  return {
    action,
    initialDelayMs: (p.initialDelaySeconds ?? 0) * 1000,
    periodMs: (p.periodSeconds || 10) * 1000,
    timeoutMs: (p.timeoutSeconds || 1) * 1000,
    successThreshold: p.successThreshold || 1,
    failureThreshold: p.failureThreshold || 3,
  };
}

function actionOf(p: Plain): ProbeAction | undefined {
  if (p.httpGet) {
    const { path = '/', port: number = 0, scheme, httpHeaders = [] } = p.httpGet;
    const headers = (httpHeaders as Plain[]).map((h) => ({ name: h?.name ?? '', value: h?.value ?? '' }));
    return { type: 'http', path, port: number, https: scheme === 'HTTPS', headers };
  }
  if (p.tcpSocket) return { type: 'tcp', port: p.tcpSocket.port ?? 0 };
  if (p.exec) return { type: 'exec', command: p.exec.command ?? [] };
  if (p.grpc) return { type: 'grpc', port: p.grpc.port ?? 0, service: p.grpc.service ?? '' };
  return undefined;
}
