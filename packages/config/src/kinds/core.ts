/** Kubernetes' own kinds, and Weft's: Namespace, ServiceAccount, Service, Process, MeshDefaults. */
import {
  hasPort,
  type MeshDefaultsModel,
  mayCarryHttp,
  type NamespaceModel,
  type ProbeAction,
  type ProbeModel,
  type ProcessModel,
  type ProcessPortModel,
  portProtocol,
  protocolNamed,
  type ServiceAccountModel,
  type ServiceModel,
  type ServicePortModel,
} from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import { captureScope, opaquePorts } from './capture.ts';
import {
  bool,
  checkName,
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
  strings,
} from './common.ts';
import { proxyConfigAnnotation } from './proxy-config.ts';
import { failFast, serviceBalancing } from './resilience.ts';
import { serviceFields, serviceFieldsOf, serviceFieldsRefused } from './service-fields.ts';

const WEFT = ['weft.dev/v1alpha1'];
const VALUE = 'WEFT-VALUE';

export const namespaceKind: Kind<NamespaceModel> = {
  kind: 'Namespace',
  apiVersions: ['v1'],
  spec: { t: 'object', fields: { finalizers: { t: 'any' } } },
  specRequired: false,
  build: (resource) => resource,
};

export const serviceAccountKind: Kind<ServiceAccountModel> = {
  kind: 'ServiceAccount',
  apiVersions: ['v1'],
  spec: undefined,
  specRequired: false,
  top: { fields: {}, unsupported: ['secrets', 'imagePullSecrets', 'automountServiceAccountToken'] },
  build: (resource) => resource,
};

const transport: Schema = {
  t: 'string',
  check: (v) => {
    if (v === 'SCTP') return 'it is not carried by the mesh, which proxies TCP alone';
    return v === 'TCP' || v === 'UDP' ? undefined : 'it may be TCP or UDP';
  },
};

/** HTTP/3 by any of its names. */
const HTTP3 = new Set(['h3', 'http3', 'quic']);

const serviceSpec: ObjectSchema = {
  t: 'object',
  fields: {
    selector: labels,
    ports: {
      t: 'list',
      max: 250,
      of: {
        t: 'object',
        fields: {
          name: portName,
          port,
          targetPort: { t: 'intOrString' },
          protocol: transport,
          appProtocol: str,
          nodePort: port,
        },
        required: ['port'],
      },
    },
    clusterIP: {
      t: 'string',
      check: (v) => (v === '' || v === 'None' || isIpv4(v) || isIpv6(v) ? undefined : 'it is no IP address, nor None'),
    },
    ...serviceFields,
    publishNotReadyAddresses: bool,
  },
  unsupported: serviceFieldsRefused,
};

export const serviceKind: Kind<ServiceModel> = {
  kind: 'Service',
  apiVersions: ['v1'],
  spec: serviceSpec,
  specRequired: true,
  build(resource, spec, report) {
    const ports: ServicePortModel[] = [];
    const opaque = opaquePorts(resource.annotations, report);
    for (const [i, p] of ((spec.ports ?? []) as Plain[]).entries()) {
      if (!p || p.port === undefined) continue;
      const field = `spec.ports[${i}]`;
      const name = p.name ?? '';
      const target = p.targetPort ?? p.port;
      if (typeof target === 'number' && (target < 1 || target > 65535)) {
        report(VALUE, `is ${target}, which is no port`, `${field}.targetPort`);
      }
      const same = ports.find((q) => q.port === p.port && q.transport === (p.protocol ?? 'TCP'));
      if (same) report(VALUE, `the port ${p.port} is there twice`, `${field}.port`);
      if (name !== '' && ports.some((q) => q.name === name)) {
        report(VALUE, `the port name "${name}" is there twice`, `${field}.name`);
      }
      if (name === '' && spec.ports.length > 1) {
        report(VALUE, 'a service with several ports needs a name for each', field);
      }
      if (p.protocol === 'UDP') {
        const message =
          'UDP is not carried by the mesh: nothing listens for it at the address of the service, and captured workloads may send none but DNS';
        report('WEFT-NO-EFFECT', message, `${field}.protocol`, 'warning');
      } else if (HTTP3.has(String(p.appProtocol ?? name.split('-', 1)[0]).toLowerCase())) {
        const message = 'HTTP/3 is not spoken here: it runs on UDP, which the mesh does not carry. Use http2 or http';
        report('WEFT-UNSUPPORTED', message, p.appProtocol === undefined ? `${field}.name` : `${field}.appProtocol`);
      } else if (p.appProtocol) checkAppProtocol(p.appProtocol, name, `${field}.appProtocol`, report);
      ports.push({
        port: p.port,
        name,
        targetPort: target,
        protocol: hasPort(opaque, p.port) ? 'tcp' : portProtocol(p.appProtocol, name, p.port),
        transport: p.protocol ?? 'TCP',
        field,
      });
    }
    const more = serviceFieldsOf(spec, report);
    if (ports.length === 0 && spec.type !== 'ExternalName')
      report(VALUE, 'a service needs at least one port', 'spec.ports');
    const headless = spec.clusterIP === 'None';
    return {
      ...resource,
      selector: spec.selector ? labelsOf(spec.selector) : undefined,
      ports,
      clusterIP: headless || !spec.clusterIP ? undefined : spec.clusterIP,
      headless,
      publishNotReadyAddresses: spec.publishNotReadyAddresses ?? false,
      balancing: serviceBalancing(resource.annotations, report),
      failFastMs: failFast(resource.annotations, report),
      ...more,
    };
  },
};

/** It wins over the port's name: one that is not known says nothing, and one that contradicts the name is no guess of ours. */
function checkAppProtocol(appProtocol: string, name: string, field: string, report: FieldReport): void {
  const said = protocolNamed(appProtocol);
  if (!said) {
    const message = `the mesh knows no protocol "${appProtocol.slice(0, 80)}": ${name ? 'the name of the port decides' : 'it is detected'}`;
    report('WEFT-NO-EFFECT', message, field, 'warning');
    return;
  }
  const named = protocolNamed(name.split('-', 1)[0]);
  if (named && mayCarryHttp(named) !== mayCarryHttp(said)) {
    const message = `says ${appProtocol}, but the name "${name}" says ${named}: a port has one protocol; change one of them`;
    report(VALUE, message, field);
  }
}

const seconds = (min: number): Schema => ({ t: 'int', min, max: 86_400 });

const probe: ObjectSchema = {
  t: 'object',
  fields: {
    httpGet: {
      t: 'object',
      fields: { path: str, port: { t: 'intOrString' }, scheme: { t: 'string', enum: ['HTTP'] } },
      required: ['port'],
      unsupported: ['host', 'httpHeaders'],
    },
    tcpSocket: { t: 'object', fields: { port: { t: 'intOrString' } }, required: ['port'], unsupported: ['host'] },
    exec: { t: 'object', fields: { command: { ...strings, min: 1 } as Schema }, required: ['command'] },
    initialDelaySeconds: seconds(0),
    periodSeconds: seconds(1),
    timeoutSeconds: seconds(1),
    successThreshold: { t: 'int', min: 1, max: 1000 },
    failureThreshold: { t: 'int', min: 1, max: 100_000 },
  },
  oneOf: [['httpGet', 'tcpSocket', 'exec']],
  unsupported: ['grpc', 'terminationGracePeriodSeconds'],
};

const envName: Schema = {
  t: 'string',
  check: (v) => (/^[^=\0]+$/.test(v) ? undefined : 'a variable name is not empty and has no "="'),
};
const envValue: Schema = { t: 'string', check: (v) => (v.includes('\0') ? 'it may not hold NUL' : undefined) };

const processSpec: ObjectSchema = {
  t: 'object',
  fields: {
    command: { t: 'list', of: str, min: 1, max: 1000 },
    gateway: {
      t: 'object',
      fields: { acceptHttp10: bool, numTrustedProxies: { t: 'int', min: 0, max: 100 }, proxyProtocol: bool },
    },
    args: strings,
    cwd: nonEmpty,
    env: {
      t: 'either',
      list: {
        t: 'list',
        max: 1000,
        of: {
          t: 'object',
          fields: { name: envName, value: envValue },
          required: ['name'],
          unsupported: ['valueFrom'],
        },
      },
      map: { t: 'map', of: envValue, checkKey: (k) => (/^[^=\0]+$/.test(k) ? undefined : 'is no variable name') },
    },
    ports: {
      t: 'list',
      max: 250,
      of: {
        t: 'object',
        fields: {
          name: portName,
          containerPort: port,
          port,
          protocol: { t: 'string', enum: ['TCP'] },
          appProtocol: str,
        },
        oneOf: [['containerPort', 'port']],
        unsupported: ['hostPort', 'hostIP'],
      },
    },
    serviceAccountName: { t: 'string', check: checkName },
    replicas: { t: 'int', min: 0, max: 1000 },
    readinessProbe: probe,
    restartPolicy: { t: 'string', enum: ['Always', 'OnFailure', 'Never'] },
    runAsUser: { t: 'int', min: 0, max: 4_294_967_294 },
  },
  oneOf: [['command', 'gateway']],
  unsupported: ['livenessProbe', 'startupProbe', 'lifecycle', 'resources', 'terminationGracePeriodSeconds', 'template'],
};

export const processKind: Kind<ProcessModel> = {
  kind: 'Process',
  apiVersions: WEFT,
  spec: processSpec,
  specRequired: true,
  build(resource, spec, report) {
    const ports: ProcessPortModel[] = [];
    const opaque = opaquePorts(resource.annotations, report);
    for (const [i, p] of ((spec.ports ?? []) as Plain[]).entries()) {
      if (!p) continue;
      const field = `spec.ports[${i}]`;
      const number: number | undefined = p.containerPort ?? p.port;
      if (number === undefined) {
        report('WEFT-FIELD', 'the field "containerPort" is missing', field);
        continue;
      }
      if (number >= 15000 && number <= 15099) {
        report(VALUE, `the port ${number} is the proxy's (15000 to 15099): take another`, field);
      }
      if (ports.some((q) => q.port === number)) report(VALUE, `the port ${number} is there twice`, field);
      const name = p.name ?? '';
      if (name !== '' && ports.some((q) => q.name === name)) {
        report(VALUE, `the port name "${name}" is there twice`, `${field}.name`);
      }
      const protocol = hasPort(opaque, number) ? 'tcp' : portProtocol(p.appProtocol, name, number);
      ports.push({ port: number, name, protocol, field });
    }
    if (spec.runAsUser === 1337) {
      report(VALUE, 'the user 1337 is the proxy: its traffic would pass by the mesh', 'spec.runAsUser');
    }
    if (spec.gateway) {
      for (const name of ['args', 'cwd', 'env', 'readinessProbe', 'restartPolicy', 'runAsUser']) {
        if (spec[name] !== undefined) report(VALUE, 'a gateway is a proxy alone: remove it', `spec.${name}`);
      }
    } else if (!spec.command && !report.broken('spec.command')) {
      report('WEFT-FIELD', 'the field "command" is missing (a gateway has "gateway: {}" instead)', 'spec.command');
    }
    if (spec.command?.[0] === '') report(VALUE, 'the first word of the command is empty', 'spec.command[0]');
    return {
      ...resource,
      command: [...(spec.command ?? []), ...(spec.args ?? [])],
      gateway: spec.gateway
        ? {
            acceptHttp10: spec.gateway.acceptHttp10 ?? false,
            numTrustedProxies: spec.gateway.numTrustedProxies,
            proxyProtocol: spec.gateway.proxyProtocol,
          }
        : undefined,
      cwd: spec.cwd,
      env: envOf(spec.env),
      ports,
      serviceAccountName: spec.serviceAccountName ?? 'default',
      replicas: spec.replicas ?? 1,
      readinessProbe: spec.readinessProbe ? probeOf(spec.readinessProbe, ports, report) : undefined,
      restartPolicy: spec.restartPolicy ?? 'Always',
      runAsUser: spec.runAsUser,
      capture: captureScope(resource.annotations, report),
      proxy: proxyConfigAnnotation(resource.annotations, report),
    };
  },
};

function envOf(env: unknown): { name: string; value: string }[] {
  if (Array.isArray(env)) {
    return env
      .filter((e) => e?.name !== undefined)
      .map((e) => ({ name: e.name as string, value: (e.value ?? '') as string }));
  }
  return Object.entries((env ?? {}) as Record<string, string>).map(([name, value]) => ({ name, value }));
}

function probeOf(p: Plain, ports: readonly ProcessPortModel[], report: FieldReport): ProbeModel | undefined {
  const at = 'spec.readinessProbe';
  const resolve = (written: number | string | undefined, field: string): number => {
    if (typeof written === 'number') {
      if (written < 1 || written > 65535) report(VALUE, `is ${written}, which is no port`, field);
      return written;
    }
    const named = ports.find((q) => q.name === written);
    if (named) return named.port;
    const known = ports.filter((q) => q.name !== '').map((q) => q.name);
    report('WEFT-NO-PORT', `names the port "${written}", but the process has ${list(known)}`, field);
    return 0;
  };
  let action: ProbeAction;
  if (p.httpGet) {
    const path = p.httpGet.path ?? '/';
    if (!path.startsWith('/')) report(VALUE, 'a path begins with "/"', `${at}.httpGet.path`);
    action = { type: 'http', path, port: resolve(p.httpGet.port, `${at}.httpGet.port`) };
  } else if (p.tcpSocket) action = { type: 'tcp', port: resolve(p.tcpSocket.port, `${at}.tcpSocket.port`) };
  else if (p.exec) action = { type: 'exec', command: p.exec.command ?? [] };
  else {
    report(VALUE, 'a probe needs one of httpGet, tcpSocket, exec', at);
    return undefined;
  }
  return {
    action,
    initialDelayMs: (p.initialDelaySeconds ?? 0) * 1000,
    periodMs: (p.periodSeconds ?? 10) * 1000,
    timeoutMs: (p.timeoutSeconds ?? 1) * 1000,
    successThreshold: p.successThreshold ?? 1,
    failureThreshold: p.failureThreshold ?? 3,
  };
}

function list(names: readonly string[]): string {
  return names.length > 0 ? names.join(', ') : 'no port with a name';
}

export const meshDefaultsKind: Kind<MeshDefaultsModel> = {
  kind: 'MeshDefaults',
  apiVersions: WEFT,
  spec: { t: 'object', fields: { timeout: { t: 'duration' } } },
  specRequired: true,
  build: (resource, spec) => ({ ...resource, timeoutMs: spec.timeout }),
};
