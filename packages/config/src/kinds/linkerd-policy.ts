/** Linkerd's policy: who may call a Server, or an HTTPRoute of it (features: B-4). The Server itself: linkerd.ts. */
import type {
  InboundRouteModel,
  LinkerdAuthorizationModel,
  MeshTlsAuthenticationModel,
  NetworkAuthenticationModel,
} from '@weft/model';
import { hostnames } from '../gateway-api/common.ts';
import { matchesOf, routeMatches } from '../gateway-api/http-route.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import { checkIpBlock, checkLabelName, type Kind, nonEmpty, type Plain, port, str } from './common.ts';

const POLICY = 'policy.linkerd.io';
const CORE = ['', 'core'];
const namespace: Schema = { t: 'string', check: checkLabelName };

const reference: ObjectSchema = {
  t: 'object',
  fields: { group: str, kind: nonEmpty, name: nonEmpty, namespace },
  required: ['kind', 'name'],
};

export const linkerdAuthorizationKind: Kind<LinkerdAuthorizationModel> = {
  kind: 'AuthorizationPolicy',
  as: `AuthorizationPolicy.${POLICY}`,
  apiVersions: [`${POLICY}/v1alpha1`],
  spec: {
    t: 'object',
    fields: { targetRef: reference, requiredAuthenticationRefs: { t: 'list', of: reference, max: 100 } },
    required: ['targetRef', 'requiredAuthenticationRefs'],
  },
  specRequired: true,
  build(resource, spec, report) {
    const target: Plain = spec.targetRef ?? {};
    const at = 'spec.targetRef';
    const group = target.kind === 'Namespace' ? CORE : [POLICY];
    if (target.kind === 'GRPCRoute') {
      const message = 'a GRPCRoute cannot be a target yet: write an HTTPRoute whose paths are /package.Service/Method';
      report('WEFT-UNSUPPORTED', message, `${at}.kind`);
    } else if (target.kind && !['Server', 'HTTPRoute', 'Namespace'].includes(target.kind)) {
      report('WEFT-VALUE', `is ${target.kind}; it may be Server, HTTPRoute or Namespace`, `${at}.kind`);
    } else if (target.kind && !group.includes(target.group ?? '')) {
      const message = `the group of a ${target.kind} is ${group[0] || 'core, or empty'}`;
      report('WEFT-VALUE', message, target.group === undefined ? at : `${at}.group`);
    }
    if (target.kind === 'Namespace' && target.name && target.name !== resource.namespace)
      report('WEFT-VALUE', `is ${target.name}: only its own namespace, ${resource.namespace}, can be`, `${at}.name`);
    if (target.namespace && target.namespace !== resource.namespace)
      report('WEFT-VALUE', 'the target is in the namespace of the policy', `${at}.namespace`);
    const refs = ((spec.requiredAuthenticationRefs ?? []) as (Plain | undefined)[]).entries();
    const seen = new Set<string>();
    const authentications: LinkerdAuthorizationModel['authentications'][number][] = [];
    for (const [i, r] of refs) {
      if (!r?.kind || !r.name) continue;
      const field = `spec.requiredAuthenticationRefs[${i}]`;
      const known = r.kind === 'MeshTLSAuthentication' || r.kind === 'NetworkAuthentication';
      if (!known && r.kind !== 'ServiceAccount') {
        const kinds = 'MeshTLSAuthentication, NetworkAuthentication or ServiceAccount';
        report('WEFT-VALUE', `is ${r.kind}; it may be ${kinds}`, `${field}.kind`);
        continue;
      }
      if (!(known ? [POLICY] : CORE).includes(r.group ?? ''))
        report('WEFT-VALUE', `the group of a ${r.kind} is ${known ? POLICY : 'core, or empty'}`, `${field}.kind`);
      // All must hold, and a caller has one identity and one address.
      const what = r.kind === 'NetworkAuthentication' ? 'network' : 'identity';
      if (seen.has(what)) report('WEFT-VALUE', `only one ${what} may be required: all of them must hold`, field);
      seen.add(what);
      authentications.push({ field, kind: r.kind, name: r.name, namespace: r.namespace ?? resource.namespace });
    }
    return { ...resource, target: { kind: target.kind, name: target.name ?? '' }, authentications };
  },
};

/**
 * A principal, or the pattern of one, of an identity in Linkerd's form: `ACCOUNT.NAMESPACE.serviceaccount.identity.
 * CONTROL-NAMESPACE.TRUST-DOMAIN`, `*.` and the end of one, `*`, or a SPIFFE id.
 */
export function principalOfIdentity(identity: string): string | undefined {
  if (identity === '*') return '*';
  if (identity.startsWith('spiffe://')) return identity.includes('*') ? undefined : identity.slice(9);
  const m = /^(?:(.+?)\.)??(?:([-a-z0-9]+)\.)?serviceaccount\.identity\.[-a-z0-9]+\.([-a-z0-9.]+)$/.exec(identity);
  if (!m) return undefined;
  const [, account, space, trustDomain] = m;
  if (space === undefined) return identity.startsWith('*.') && account === '*' ? `${trustDomain}/ns/*` : undefined;
  if (account === '*') return `${trustDomain}/ns/${space}/sa/*`;
  return account === undefined || account.includes('*') ? undefined : `${trustDomain}/ns/${space}/sa/${account}`;
}

export const meshTlsAuthenticationKind: Kind<MeshTlsAuthenticationModel> = {
  kind: 'MeshTLSAuthentication',
  apiVersions: [`${POLICY}/v1alpha1`],
  spec: {
    t: 'object',
    fields: {
      identities: {
        t: 'list',
        min: 1,
        max: 1000,
        of: {
          t: 'string',
          check: (v) =>
            principalOfIdentity(v) === undefined
              ? 'write ACCOUNT.NAMESPACE.serviceaccount.identity.linkerd.TRUST-DOMAIN, the same with "*" for the account or for both, "*", or spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT'
              : undefined,
        },
      },
      identityRefs: { t: 'list', of: reference, min: 1, max: 1000 },
    },
    oneOf: [['identities', 'identityRefs']],
  },
  specRequired: true,
  build(resource, spec, report) {
    if (!spec.identities && !spec.identityRefs && !report.broken('spec.identities'))
      report('WEFT-FIELD', 'needs identities or identityRefs', 'spec');
    const principals = ((spec.identities ?? []) as string[]).flatMap((v) => (v && principalOfIdentity(v)) ?? []);
    for (const [i, r] of ((spec.identityRefs ?? []) as (Plain | undefined)[]).entries()) {
      const at = `spec.identityRefs[${i}]`;
      if (!r?.kind || !r.name) continue;
      if (r.kind === 'ServiceAccount') principals.push(`/ns/${r.namespace ?? resource.namespace}/sa/${r.name}`);
      else if (r.kind === 'Namespace') principals.push(`/ns/${r.name}/sa/*`);
      else report('WEFT-VALUE', `is ${r.kind}; it may be ServiceAccount or Namespace`, `${at}.kind`);
      if (!CORE.includes(r.group ?? '')) report('WEFT-VALUE', 'the group is core, or empty', `${at}.group`);
    }
    return { ...resource, principals };
  },
};

const block: Schema = { t: 'string', check: checkIpBlock };

export const networkAuthenticationKind: Kind<NetworkAuthenticationModel> = {
  kind: 'NetworkAuthentication',
  apiVersions: [`${POLICY}/v1alpha1`],
  spec: {
    t: 'object',
    fields: {
      networks: {
        t: 'list',
        min: 1,
        max: 1000,
        of: {
          t: 'object',
          fields: { cidr: block, except: { t: 'list', of: block, max: 1000 } },
          required: ['cidr'],
        },
      },
    },
    required: ['networks'],
  },
  specRequired: true,
  build(resource, spec) {
    const networks = ((spec.networks ?? []) as (Plain | undefined)[]).flatMap((n) =>
      n?.cidr ? [{ cidr: n.cidr as string, except: (n.except ?? []) as string[] }] : [],
    );
    return { ...resource, networks };
  },
};

/** An HTTPRoute of Servers. One of a Service is the Gateway API's. */
export const inboundRouteKind: Kind<InboundRouteModel> = {
  kind: 'HTTPRoute',
  as: `HTTPRoute.${POLICY}`,
  apiVersions: ['v1beta3', 'v1beta2', 'v1beta1', 'v1alpha1'].map((v) => `${POLICY}/${v}`),
  spec: {
    t: 'object',
    fields: {
      parentRefs: {
        t: 'list',
        min: 1,
        max: 32,
        of: {
          t: 'object',
          fields: { group: str, kind: str, name: nonEmpty, namespace, sectionName: str, port },
          required: ['name'],
        },
      },
      hostnames,
      rules: {
        t: 'list',
        min: 1,
        max: 128,
        of: {
          t: 'object',
          fields: { name: str, matches: routeMatches },
          unsupported: ['filters', 'backendRefs', 'timeouts'],
        },
      },
    },
    required: ['parentRefs'],
  },
  specRequired: true,
  build(resource, spec, report) {
    const servers: InboundRouteModel['servers'][number][] = [];
    for (const [i, p] of ((spec.parentRefs ?? []) as (Plain | undefined)[]).entries()) {
      if (!p?.name) continue;
      const field = `spec.parentRefs[${i}]`;
      if (p.group !== POLICY || p.kind !== 'Server') {
        const message = `its parents are Servers (group: ${POLICY}, kind: Server); a route of a Service is written with apiVersion gateway.networking.k8s.io/v1`;
        report('WEFT-VALUE', message, `${field}${p.kind === undefined ? '' : '.kind'}`);
      } else if (p.namespace && p.namespace !== resource.namespace)
        report('WEFT-VALUE', 'the Server is in the namespace of the route', `${field}.namespace`);
      else servers.push({ field: `${field}.name`, name: p.name });
      for (const name of ['sectionName', 'port'])
        if (p[name] !== undefined) report('WEFT-VALUE', 'a Server has one port', `${field}.${name}`);
    }
    const matches = ((spec.rules ?? [{}]) as (Plain | undefined)[]).flatMap((r, i) => {
      if (!r) return [];
      const rule = spec.rules ? `spec.rules[${i}]` : 'spec';
      const written = (r.matches ?? []) as (Plain | undefined)[];
      if (written.length === 0) return matchesOf({}, rule, report).map((m) => ({ field: rule, ...m }));
      return written.flatMap((m, j) => {
        const field = `${rule}.matches[${j}]`;
        return m ? matchesOf(m, field, report).map((one) => ({ field, ...one })) : [];
      });
    });
    return { ...resource, servers, hostnames: (spec.hostnames ?? []) as string[], matches };
  },
};
