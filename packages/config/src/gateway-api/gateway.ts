/** Gateway, GatewayClass and ReferenceGrant of the Gateway API. A Gateway becomes what Istio's is in the model. */
import type {
  AllowedRoutesModel,
  CredentialModel,
  GatewayClassModel,
  GatewayModel,
  GatewayServerModel,
  GatewayTlsModel,
  ReferenceGrantModel,
} from '@weft/model';
import {
  type FieldReport,
  type Kind,
  selector as labelSelector,
  labelsOf,
  nonEmpty,
  type Plain,
  port,
  str,
} from '../kinds/common.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import { GROUP, hostname, namespaceName, objectName, versions } from './common.ts';
import { Frontend, frontendValidation, gatewayTls } from './frontend.ts';

const VALUE = 'WEFT-VALUE';

/** Label of the gateway workloads of a Gateway, in its own namespace. */
export const GATEWAY_NAME_LABEL = `${GROUP}/gateway-name`;

/** Controllers whose classes are ours, and classes that are there without a document. */
export const CONTROLLERS = ['weft.dev/gateway-controller', 'istio.io/gateway-controller'];
export const BUILT_IN_CLASSES = ['weft', 'istio'];

/** Routes that a listener of a protocol takes where it does not say itself. */
const ROUTES: Readonly<Record<string, readonly string[]>> = {
  HTTP: ['HTTPRoute', 'GRPCRoute'],
  HTTPS: ['HTTPRoute', 'GRPCRoute'],
  TCP: ['TCPRoute'],
  TLS: ['TLSRoute', 'TCPRoute'],
};
const KINDS = ['HTTPRoute', 'GRPCRoute', 'TCPRoute', 'TLSRoute'];

const listener: ObjectSchema = {
  t: 'object',
  fields: {
    name: objectName,
    hostname,
    port,
    protocol: {
      t: 'string',
      check: (v) => {
        if (Object.hasOwn(ROUTES, v)) return undefined;
        if (v === 'UDP') return 'the mesh does not carry UDP';
        return 'it may be HTTP, HTTPS, TCP or TLS';
      },
    },
    tls: {
      t: 'object',
      fields: {
        mode: { t: 'string', enum: ['Terminate', 'Passthrough'] },
        certificateRefs: {
          t: 'list',
          max: 64,
          of: {
            t: 'object',
            fields: { group: str, kind: str, name: objectName, namespace: namespaceName },
            required: ['name'],
          },
        },
        frontendValidation,
      },
      unsupported: ['options'],
    },
    allowedRoutes: {
      t: 'object',
      fields: {
        namespaces: {
          t: 'object',
          fields: { from: { t: 'string', enum: ['All', 'Same', 'Selector'] }, selector: labelSelector },
        },
        kinds: {
          t: 'list',
          max: 8,
          of: { t: 'object', fields: { group: str, kind: { t: 'string', enum: KINDS } }, required: ['kind'] },
        },
      },
    },
  },
  required: ['name', 'port', 'protocol'],
};

export const apiGatewayKind: Kind<GatewayModel> = {
  kind: 'Gateway',
  apiVersions: versions('v1', 'v1beta1', 'v1alpha2'),
  spec: {
    t: 'object',
    fields: {
      gatewayClassName: nonEmpty,
      listeners: { t: 'list', of: listener, min: 1, max: 64 },
      tls: gatewayTls,
    },
    required: ['gatewayClassName', 'listeners'],
    unsupported: ['addresses', 'infrastructure', 'allowedListeners', 'backendTLS', 'defaultScope'],
  },
  specRequired: true,
  build(resource, spec, report) {
    const servers: GatewayServerModel[] = [];
    const names = new Set<string>();
    const frontend = new Frontend(spec.tls, report);
    for (const [i, l] of ((spec.listeners ?? []) as (Plain | undefined)[]).entries()) {
      if (l?.name === undefined || l.port === undefined || l.protocol === undefined) continue;
      const field = `spec.listeners[${i}]`;
      if (names.has(l.name)) report(VALUE, `the listener name "${l.name}" is there twice`, `${field}.name`);
      names.add(l.name);
      if (l.port >= 15000 && l.port <= 15099) {
        report(VALUE, `the port ${l.port} is the proxy's (15000 to 15099): take another`, `${field}.port`);
      }
      const host: string = l.hostname ?? '*';
      const same = servers.find((s) => s.port === l.port && s.hosts[0].host === host);
      if (same) report(VALUE, `the listener ${same.portName} has this port and hostname already`, field);
      const secure = l.protocol === 'HTTPS' || l.protocol === 'TLS';
      if (!secure && l.tls) report(VALUE, `a listener of protocol ${l.protocol} has no tls`, `${field}.tls`);
      if (l.protocol === 'TCP' && l.hostname !== undefined) {
        report(VALUE, 'a listener of protocol TCP sees no host names: remove it', `${field}.hostname`);
      }
      const tls = secure ? tlsOf(l, field, frontend, report) : undefined;
      servers.push({
        field,
        port: l.port,
        portName: l.name,
        hosts: [{ namespace: '*', host }],
        http2: false,
        grpcWeb: false,
        opaque: l.protocol === 'TCP' || l.protocol === 'TLS',
        tls,
        httpsRedirect: false,
        allowedRoutes: allowedOf(l.allowedRoutes, l.protocol, `${field}.allowedRoutes`, report),
      });
    }
    frontend.tellUnused();
    const selector = { [GATEWAY_NAME_LABEL]: resource.name };
    return { ...resource, selector, gatewayApi: true, className: spec.gatewayClassName ?? '', servers };
  },
};

function tlsOf(listener: Plain, at: string, frontend: Frontend, report: FieldReport): GatewayTlsModel {
  const { protocol } = listener;
  const tls = listener.tls as Plain | undefined;
  const field = `${at}.tls`;
  const passes = tls?.mode === 'Passthrough';
  if (passes && protocol === 'HTTPS') report(VALUE, 'Passthrough is for listeners of protocol TLS', `${field}.mode`);
  const refs = (tls?.certificateRefs ?? []) as (Plain | undefined)[];
  if (passes && refs.length > 0) {
    report(VALUE, 'a listener that passes TLS on has no certificate: remove it', `${field}.certificateRefs`);
  }
  if (passes && tls.frontendValidation) {
    report(VALUE, 'a listener that passes TLS on sees no certificates of clients', `${field}.frontendValidation`);
  }
  const authorities = passes ? [] : frontend.of(listener, at);
  if (!passes && refs.length === 0 && !report.broken(field) && !report.broken(`${field}.certificateRefs`)) {
    report('WEFT-FIELD', `a listener of protocol ${protocol} needs tls.certificateRefs, which names a Secret`, field);
  }
  const credentials: CredentialModel[] = [];
  for (const [i, ref] of refs.entries()) {
    const place = `${field}.certificateRefs[${i}]`;
    if (!ref) continue;
    if ((ref.group ?? '') !== '' || (ref.kind ?? 'Secret') !== 'Secret') {
      report(VALUE, 'a certificate is in a Secret (group "")', `${place}.kind`);
    } else if (ref.name) credentials.push({ name: ref.name, namespace: ref.namespace ?? '', field: place });
  }
  return {
    mode: passes ? 'PASSTHROUGH' : authorities.length > 0 ? 'MUTUAL' : 'SIMPLE',
    credentials: passes ? [] : credentials,
    files: [],
    caPem: '',
    crlPem: '',
    authorities,
    subjectAltNames: [],
    certificateHashes: [],
    keyHashes: [],
    minVersion: 'TLS_AUTO',
    maxVersion: 'TLS_AUTO',
    cipherSuites: [],
  };
}

function allowedOf(
  allowed: Plain | undefined,
  protocol: string,
  field: string,
  report: FieldReport,
): AllowedRoutesModel {
  const fit = ROUTES[protocol] ?? [];
  const from: string = allowed?.namespaces?.from ?? 'Same';
  const select = allowed?.namespaces?.selector as Plain | undefined;
  if ((from === 'Selector') !== (select !== undefined)) {
    const message = from === 'Selector' ? 'from: Selector needs a selector' : 'a selector needs from: Selector';
    report(VALUE, message, `${field}.namespaces`);
  }
  const kinds = ((allowed?.kinds ?? []) as (Plain | undefined)[]).flatMap((k, i) => {
    if (k && (k.group ?? GROUP) !== GROUP) report(VALUE, `routes are of ${GROUP}`, `${field}.kinds[${i}].group`);
    if (k?.kind && !fit.includes(k.kind)) {
      report(VALUE, `a listener of protocol ${protocol} takes ${fit.join(' and ')}`, `${field}.kinds[${i}].kind`);
    }
    return k?.kind ? [k.kind as string] : [];
  });
  return {
    from: from === 'Selector' ? labelsOf(select?.matchLabels) : (from as 'All' | 'Same'),
    kinds: kinds.length > 0 ? kinds : fit,
  };
}

export const gatewayClassKind: Kind<GatewayClassModel> = {
  kind: 'GatewayClass',
  apiVersions: versions('v1', 'v1beta1', 'v1alpha2'),
  spec: {
    t: 'object',
    fields: { controllerName: nonEmpty, description: str },
    required: ['controllerName'],
    unsupported: ['parametersRef'],
  },
  specRequired: true,
  build: (resource, spec) => ({ ...resource, controllerName: spec.controllerName ?? '' }),
};

const refs = (fields: Record<string, Schema>, required: string[]): Schema => ({
  t: 'list',
  min: 1,
  max: 16,
  of: { t: 'object', fields: { group: str, kind: nonEmpty, ...fields }, required: ['group', 'kind', ...required] },
});

export const referenceGrantKind: Kind<ReferenceGrantModel> = {
  kind: 'ReferenceGrant',
  apiVersions: versions('v1', 'v1beta1', 'v1alpha2'),
  spec: {
    t: 'object',
    fields: { from: refs({ namespace: namespaceName }, ['namespace']), to: refs({ name: objectName }, []) },
    required: ['from', 'to'],
  },
  specRequired: true,
  build(resource, spec) {
    const plain = (list: unknown): Plain[] =>
      ((list ?? []) as (Plain | undefined)[]).filter((x): x is Plain => x?.kind !== undefined);
    return {
      ...resource,
      from: plain(spec.from).map((f) => ({ group: f.group ?? '', kind: f.kind, namespace: f.namespace ?? '' })),
      to: plain(spec.to).map((t) => ({ group: t.group ?? '', kind: t.kind, name: t.name ?? '' })),
    };
  },
};
