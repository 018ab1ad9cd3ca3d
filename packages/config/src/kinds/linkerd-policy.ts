/** Linkerd's policy: who may call a Server, or an HTTPRoute of it. The Server itself: linkerd.ts. */
import type {
  InboundRouteModel,
  LinkerdAuthorizationModel,
  MeshTlsAuthenticationModel,
  NetworkAuthenticationModel,
} from '@weft/model';
import { GROUP, hostnames } from '../gateway-api/common.ts';
import { matchesOf, routeMatches } from '../gateway-api/http-route.ts';
import { POLICY, serversIn } from '../gateway-api/inbound.ts';
import { matchesIn, rulesIn } from '../gateway-api/rules.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import { checkIpBlock, checkLabelName, type Kind, nonEmpty, type Plain, port, str } from './common.ts';

const CORE = ['', 'core'];
const namespace: Schema = { t: 'string', check: checkLabelName };

const reference: ObjectSchema = {
  t: 'object',
  fields: { group: str, kind: nonEmpty, name: nonEmpty, namespace },
  required: ['kind', 'name'],
};

/** What a policy may be for, and the groups of it. */
const TARGETS: ReadonlyMap<string, readonly string[]> = new Map([
  ['Server', [POLICY]],
  ['HTTPRoute', [POLICY, GROUP]],
  ['GRPCRoute', [GROUP]],
  ['Namespace', CORE],
]);

function article(kind: string): string {
  return kind.startsWith('HTTP') ? `an ${kind}` : `a ${kind}`;
}

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
    const groups = TARGETS.get(target.kind);
    if (target.kind && !groups) {
      report('WEFT-VALUE', `is ${target.kind}; it may be ${[...TARGETS.keys()].join(', ')}`, `${at}.kind`);
    } else if (groups && !groups.includes(target.group ?? '')) {
      const message = `the group of ${article(target.kind)} is ${groups[0] === '' ? 'core, or empty' : groups.join(' or ')}`;
      report('WEFT-VALUE', message, target.group === undefined ? at : `${at}.group`);
    }
    const kind = target.kind === 'HTTPRoute' && target.group === POLICY ? `HTTPRoute.${POLICY}` : target.kind;
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
    return { ...resource, target: { kind, name: target.name ?? '' }, authentications };
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

/** Linkerd's own HTTPRoute, of Servers. The Gateway API's may be of Servers too, or of Services and Gateways. */
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
    const matches = [...rulesIn(spec)]
      .flatMap(({ rule, field }) => [...matchesIn(rule, field)])
      .flatMap(({ match, at }) => matchesOf(match, at, report).map((one) => ({ field: at, ...one })));
    const servers = serversIn(spec, resource, report);
    const { hostnames: hosts = [] } = spec as { hostnames?: string[] };
    return { ...resource, kind: `HTTPRoute.${POLICY}`, servers, hostnames: hosts, matches };
  },
};
