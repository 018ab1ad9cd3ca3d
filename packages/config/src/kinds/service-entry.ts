/** Istio's ServiceEntry and WorkloadEntry: what stands beside the mesh, or in it without a platform that tells of it. */
import type {
  EntryEndpointModel,
  IpFamily,
  PortProtocol,
  Resolution,
  ServiceEntryModel,
  ServiceModel,
  ServicePortModel,
  WorkloadEntryModel,
} from '@weft/model';
import type { ObjectSchema } from '../schema.ts';
import {
  checkHost,
  checkIpBlock,
  checkName,
  exportTo,
  type FieldReport,
  isIpv4,
  isIpv6,
  type Kind,
  labels,
  labelsOf,
  nonEmpty,
  type Plain,
  port,
  portName,
  str,
  uint32,
} from './common.ts';
import { NETWORKING } from './networking.ts';

const VALUE = 'WEFT-VALUE';

const PROTOCOLS = new Map<string, PortProtocol>([
  ['HTTP', 'http'],
  ['HTTPS', 'tls'],
  ['HTTP2', 'http2'],
  ['GRPC', 'grpc'],
  ['GRPC-WEB', 'grpc-web'],
  ['MONGO', 'tcp'],
  ['TCP', 'tcp'],
  ['TLS', 'tls'],
]);

const endpointFields: ObjectSchema['fields'] = {
  address: nonEmpty,
  ports: { t: 'map', of: port, checkKey: (k) => (checkName(k) ? 'is no port name' : undefined) },
  labels,
  locality: str,
  weight: uint32,
  serviceAccount: str,
};

const isIp = (text: string): boolean => isIpv4(text) || isIpv6(text);

export const serviceEntryKind: Kind<ServiceEntryModel> = {
  kind: 'ServiceEntry',
  apiVersions: NETWORKING,
  specRequired: true,
  spec: {
    t: 'object',
    fields: {
      hosts: { t: 'list', min: 1, max: 256, of: { t: 'string', check: checkHost } },
      addresses: { t: 'list', max: 256, of: { t: 'string', check: checkIpBlock } },
      ports: {
        t: 'list',
        min: 1,
        max: 256,
        of: {
          t: 'object',
          fields: {
            number: port,
            name: portName,
            protocol: {
              t: 'string',
              check: (v) =>
                PROTOCOLS.has(v.toUpperCase()) ? undefined : `it may be ${[...PROTOCOLS.keys()].join(', ')}`,
            },
            targetPort: port,
          },
          required: ['number', 'name'],
        },
      },
      location: { t: 'string', enum: ['MESH_EXTERNAL', 'MESH_INTERNAL'] },
      resolution: { t: 'string', enum: ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'] },
      endpoints: {
        t: 'list',
        max: 4096,
        of: { t: 'object', fields: endpointFields, required: ['address'], unsupported: ['network'] },
      },
      workloadSelector: { t: 'object', fields: { labels } },
      exportTo,
      subjectAltNames: { t: 'list', max: 100, of: nonEmpty },
    },
    required: ['hosts', 'ports'],
    oneOf: [['endpoints', 'workloadSelector']],
  },
  build(resource, spec, report) {
    const dynamic = spec.resolution === 'DYNAMIC_DNS';
    if (dynamic) checkDynamic(spec, report);
    // The host of a wildcard that a client names is asked for when it is called, whichever of the two is said.
    const resolution: Resolution = dynamic ? 'NONE' : (spec.resolution ?? 'NONE');
    if (spec.subjectAltNames?.length && spec.location === 'MESH_INTERNAL') {
      const message = 'what is in the mesh is known by its identity: endpoints say it by serviceAccount';
      report(VALUE, message, 'spec.subjectAltNames');
    }
    const ports = portsOf(spec.ports ?? [], report);
    const endpoints = ((spec.endpoints ?? []) as (Plain | undefined)[]).map((e, i) => {
      const field = `spec.endpoints[${i}]`;
      checkEndpoint(e ?? {}, resolution, field, report);
      for (const name of Object.keys(e?.ports ?? {})) {
        if (ports.some((p) => p.name === name)) continue;
        const known = ports.map((p) => p.name).join(', ');
        report('WEFT-NO-PORT', `names the port "${name}"; this entry has ${known}`, `${field}.ports.${name}`);
      }
      return endpointOf(e ?? {}, field);
    });
    if (resolution === 'STATIC' && endpoints.length === 0 && !spec.workloadSelector) {
      report(VALUE, 'STATIC needs endpoints, or a workloadSelector', 'spec.resolution');
    }
    if (resolution === 'NONE' && !dynamic && endpoints.length > 0) {
      report(
        VALUE,
        'with resolution NONE calls go where they were addressed: endpoints need STATIC or DNS',
        'spec.endpoints',
      );
    }
    const addresses: string[] = [];
    const blocks: string[] = [];
    for (const address of (spec.addresses ?? []) as (string | undefined)[]) {
      if (address === undefined) continue;
      const [ip, bits] = address.split('/');
      if (bits === undefined || Number(bits) === (ip.includes(':') ? 128 : 32)) addresses.push(ip);
      else blocks.push(address);
    }
    const services = ((spec.hosts ?? []) as (string | undefined)[]).flatMap((written, i): ServiceModel[] => {
      if (written === undefined) return [];
      const host = written.toLowerCase();
      const wildcard = host.startsWith('*');
      if (wildcard && resolution !== 'NONE' && resolution !== 'STATIC') {
        report(VALUE, `${resolution} cannot ask for "${host}": a wildcard needs NONE or STATIC`, `spec.hosts[${i}]`);
      }
      return [
        {
          ...resource,
          selector: spec.workloadSelector?.labels ? labelsOf(spec.workloadSelector.labels) : undefined,
          ports,
          clusterIP: addresses[0],
          ...(addresses.length > 1 ? { clusterIPs: addresses, families: familiesOf(addresses) } : {}),
          headless: wildcard,
          publishNotReadyAddresses: false,
          external: {
            host,
            resolution,
            endpoints,
            addresses,
            blocks,
            exportTo: spec.exportTo,
            outside: spec.location !== 'MESH_INTERNAL',
            subjectAltNames: ((spec.subjectAltNames ?? []) as (string | undefined)[]).filter((n) => n !== undefined),
          },
        },
      ];
    });
    return { ...resource, services };
  },
};

/** It is for hosts that nobody can list (Istio). */
function checkDynamic(spec: Plain, report: FieldReport): void {
  for (const [i, host] of ((spec.hosts ?? []) as (string | undefined)[]).entries()) {
    if (host === undefined || host.startsWith('*')) continue;
    report(VALUE, 'DYNAMIC_DNS is for wildcards: a host that is named takes DNS', `spec.hosts[${i}]`);
  }
  for (const name of ['addresses', 'endpoints', 'workloadSelector']) {
    if (spec[name] === undefined) continue;
    report(VALUE, 'with DYNAMIC_DNS calls go to the host that the client names: remove it', `spec.${name}`);
  }
  if (spec.location === 'MESH_INTERNAL') {
    report(VALUE, 'DYNAMIC_DNS is for what is outside: MESH_EXTERNAL', 'spec.location');
  }
}

function familiesOf(addresses: readonly string[]): IpFamily[] {
  return ([4, 6] as const).filter((f) => addresses.some((a) => a.includes(':') === (f === 6)));
}

function portsOf(list: (Plain | undefined)[], report: FieldReport): ServicePortModel[] {
  const ports: ServicePortModel[] = [];
  for (const [i, p] of list.entries()) {
    if (p?.number === undefined) continue;
    const field = `spec.ports[${i}]`;
    if (ports.some((q) => q.port === p.number)) report(VALUE, `the port ${p.number} is there twice`, `${field}.number`);
    if (ports.some((q) => q.name === p.name))
      report(VALUE, `the port name "${p.name}" is there twice`, `${field}.name`);
    ports.push({
      port: p.number,
      name: p.name ?? '',
      targetPort: p.targetPort ?? p.number,
      protocol: PROTOCOLS.get(String(p.protocol ?? '').toUpperCase()) ?? 'detect',
      transport: 'TCP',
      field,
    });
  }
  return ports;
}

function checkEndpoint(e: Plain, resolution: Resolution, field: string, report: FieldReport): void {
  const address = e.address as string | undefined;
  if (address === undefined) return;
  if (address.startsWith('unix:')) {
    report('WEFT-UNSUPPORTED', 'Unix sockets are not supported: an endpoint has an address', `${field}.address`);
  } else if (!isIp(address)) {
    if (resolution === 'STATIC') {
      report(
        VALUE,
        `is "${address.slice(0, 80)}", but STATIC needs IP addresses: use DNS for names`,
        `${field}.address`,
      );
    } else if (checkHost(address) || address.includes('*')) {
      report(VALUE, `is "${address.slice(0, 80)}", which is no IP address and no host name`, `${field}.address`);
    }
  }
}

function endpointOf(e: Plain, field: string): EntryEndpointModel {
  return {
    field,
    address: e.address ?? '',
    ports: new Map(Object.entries((e.ports ?? {}) as Record<string, number>)),
    labels: labelsOf(e.labels),
    locality: e.locality ?? '',
    weight: e.weight ?? 1,
    serviceAccount: e.serviceAccount ?? '',
  };
}

export const workloadEntryKind: Kind<WorkloadEntryModel> = {
  kind: 'WorkloadEntry',
  apiVersions: NETWORKING,
  specRequired: true,
  spec: { t: 'object', fields: endpointFields, required: ['address'], unsupported: ['network'] },
  build(resource, spec, report) {
    checkEndpoint(spec, 'STATIC', 'spec', report);
    return { ...resource, endpoint: { ...endpointOf(spec, 'spec'), labels: labelsOf(spec.labels ?? resource.labels) } };
  },
};
