/** Istio's security kinds: PeerAuthentication, AuthorizationPolicy. */
import type { AuthorizationPolicyModel, MtlsModeName, PeerAuthenticationModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import { checkIpBlock, type Kind, labelsOf, nonEmpty, type Plain, selector } from './common.ts';
import { targetFields, targetsOf } from './policy-targets.ts';

const VERSIONS = ['security.istio.io/v1', 'security.istio.io/v1beta1'];
const mtls: ObjectSchema = {
  t: 'object',
  fields: { mode: { t: 'string', enum: ['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT'] } },
};

export const peerAuthenticationKind: Kind<PeerAuthenticationModel> = {
  kind: 'PeerAuthentication',
  apiVersions: VERSIONS,
  spec: {
    t: 'object',
    fields: {
      selector,
      mtls,
      portLevelMtls: {
        t: 'map',
        of: mtls,
        checkKey: (k) => (/^[1-9]\d{0,4}$/.test(k) && Number(k) <= 65535 ? undefined : 'is no port number'),
      },
    },
  },
  specRequired: false,
  build(resource, spec, report, { created }) {
    const chosen = spec.selector?.matchLabels;
    const ports = Object.entries((spec.portLevelMtls ?? {}) as Record<string, { mode?: MtlsModeName } | undefined>);
    if (ports.length > 0 && (!chosen || Object.keys(chosen).length === 0)) {
      report('WEFT-VALUE', 'portLevelMtls needs a selector: ports belong to workloads', 'spec.portLevelMtls');
    }
    return {
      ...resource,
      created,
      selector: chosen ? labelsOf(chosen) : undefined,
      mode: spec.mtls?.mode ?? 'UNSET',
      portLevel: new Map(ports.map(([port, m]) => [Number(port), m?.mode ?? 'UNSET'])),
    };
  },
};

/** Exact, `prefix*`, `*suffix` or `*`. A `*` elsewhere would be compared as a character: refused, it is never meant. */
function checkPattern(v: string): string | undefined {
  if (v === '') return 'it may not be empty';
  const inner = v === '*' ? '' : v.replace(/^\*|\*$/, '');
  return inner.includes('*') ? 'a "*" may stand first or last, once' : undefined;
}

/** `{*}` stands for one segment, `{**}` for the rest or for several; no operator may follow `{**}`. */
function checkPathTemplate(v: string): string | undefined {
  if (!v.startsWith('/')) return 'a path template begins with "/"';
  const segments = v.slice(1).split('/');
  const rest = segments.indexOf('{**}');
  if (rest >= 0 && segments.slice(rest + 1).some((s) => s.startsWith('{'))) {
    return 'no "{*}" and no "{**}" may stand after "{**}"';
  }
  return segments.some((s) => s !== '{*}' && s !== '{**}' && /[{}*]/.test(s))
    ? 'in a path template each segment is text, "{*}" or "{**}"'
    : undefined;
}

const patterns: Schema = { t: 'list', max: 1000, of: { t: 'string', check: checkPattern } };
const principals: Schema = {
  t: 'list',
  max: 1000,
  of: {
    t: 'string',
    check: (v) =>
      v.startsWith('spiffe://')
        ? 'principals are written without "spiffe://": cluster.local/ns/NS/sa/SA'
        : checkPattern(v),
  },
};
const paths: Schema = {
  t: 'list',
  max: 1000,
  of: {
    t: 'string',
    check: (v) => (/[{}]/.test(v) ? checkPathTemplate(v) : checkPattern(v)),
  },
};
const ipBlocks: Schema = { t: 'list', max: 1000, of: { t: 'string', check: checkIpBlock } };
const serviceAccounts: Schema = {
  t: 'list',
  max: 1000,
  of: {
    t: 'string',
    check: (v) => (/^([-a-z0-9.]+\/)?[-a-z0-9.]+$/.test(v) ? undefined : 'write "namespace/name" or "name"'),
  },
};
const ports: Schema = {
  t: 'list',
  max: 1000,
  of: {
    t: 'string',
    check: (v) => (/^[1-9]\d{0,4}$/.test(v) && Number(v) <= 65535 ? undefined : 'it is no port number'),
  },
};

const CONDITION_KEYS = [
  'source.ip',
  'remote.ip',
  'source.namespace',
  'source.principal',
  'destination.ip',
  'destination.port',
  'connection.sni',
];

function checkConditionKey(v: string): string | undefined {
  if (CONDITION_KEYS.includes(v) || /^request\.headers\[[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}\]$/.test(v))
    return undefined;
  if (/^request\.auth\.(principal|audiences|presenter|claims(\[[^[\]]+\])+)$/.test(v)) return undefined;
  return `there is no such key: request.headers[NAME], request.auth.principal, request.auth.audiences, request.auth.presenter, request.auth.claims[NAME], ${CONDITION_KEYS.join(', ')}`;
}

const SOURCE_LISTS = [
  'principals',
  'notPrincipals',
  'namespaces',
  'notNamespaces',
  'ipBlocks',
  'notIpBlocks',
  'serviceAccounts',
  'notServiceAccounts',
  'trustDomains',
  'notTrustDomains',
  'remoteIpBlocks',
  'notRemoteIpBlocks',
  'requestPrincipals',
  'notRequestPrincipals',
] as const;
const OPERATION_LISTS = [
  'hosts',
  'notHosts',
  'ports',
  'notPorts',
  'methods',
  'notMethods',
  'paths',
  'notPaths',
] as const;

const rule: ObjectSchema = {
  t: 'object',
  fields: {
    from: {
      t: 'list',
      min: 1,
      max: 512,
      of: {
        t: 'object',
        required: ['source'],
        fields: {
          source: {
            t: 'object',
            fields: {
              principals,
              notPrincipals: principals,
              namespaces: patterns,
              notNamespaces: patterns,
              ipBlocks,
              notIpBlocks: ipBlocks,
              serviceAccounts,
              notServiceAccounts: serviceAccounts,
              trustDomains: patterns,
              notTrustDomains: patterns,
              remoteIpBlocks: ipBlocks,
              notRemoteIpBlocks: ipBlocks,
              requestPrincipals: patterns,
              notRequestPrincipals: patterns,
            },
          },
        },
      },
    },
    to: {
      t: 'list',
      min: 1,
      max: 512,
      of: {
        t: 'object',
        required: ['operation'],
        fields: {
          operation: {
            t: 'object',
            fields: {
              hosts: patterns,
              notHosts: patterns,
              ports,
              notPorts: ports,
              methods: patterns,
              notMethods: patterns,
              paths,
              notPaths: paths,
            },
          },
        },
      },
    },
    when: {
      t: 'list',
      min: 1,
      max: 512,
      of: {
        t: 'object',
        required: ['key'],
        fields: { key: { t: 'string', check: checkConditionKey }, values: patterns, notValues: patterns },
      },
    },
  },
};

export const authorizationPolicyKind: Kind<AuthorizationPolicyModel> = {
  kind: 'AuthorizationPolicy',
  apiVersions: VERSIONS,
  spec: {
    t: 'object',
    fields: {
      selector,
      ...targetFields,
      action: { t: 'string', enum: ['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'] },
      provider: { t: 'object', fields: { name: nonEmpty }, required: ['name'] },
      rules: { t: 'list', of: rule, max: 512 },
    },
  },
  specRequired: false,
  build(resource, spec, report) {
    const action = spec.action ?? 'ALLOW';
    const rules = (spec.rules ?? []) as (Plain | undefined)[];
    if (action === 'DENY' && rules.length === 0) {
      report('WEFT-VALUE', 'a DENY policy without rules matches nothing: say what it denies', 'spec.rules');
    }
    if (action === 'CUSTOM' && rules.length === 0) {
      report('WEFT-VALUE', 'a CUSTOM policy without rules matches nothing: say what is asked of', 'spec.rules');
    }
    if (action === 'CUSTOM' && !spec.provider) {
      report('WEFT-VALUE', 'a CUSTOM policy names who decides: provider.name', 'spec.provider');
    } else if (action !== 'CUSTOM' && spec.provider) {
      report('WEFT-VALUE', `only a CUSTOM policy has a provider, this one is ${action}`, 'spec.provider');
    }
    const dryRun = resource.annotations['istio.io/dry-run'] === 'true';
    if (dryRun && action === 'CUSTOM') {
      report('WEFT-VALUE', 'a dry run is for ALLOW and DENY policies', 'metadata.annotations');
    }
    return {
      ...resource,
      selector: spec.selector?.matchLabels ? labelsOf(spec.selector.matchLabels) : undefined,
      targets: targetsOf(spec, resource.namespace, report),
      action,
      provider: spec.provider?.name ?? '',
      dryRun,
      rules: rules.map((r, i) => {
        const field = `spec.rules[${i}]`;
        const from = ((r?.from ?? []) as Plain[]).map((f, j) => {
          const s = (f?.source ?? {}) as Record<string, string[]>;
          const at = `${field}.from[${j}].source`;
          if (SOURCE_LISTS.every((k) => !s[k]?.length)) report('WEFT-VALUE', 'an empty source says nothing', at);
          if (s.serviceAccounts && (s.principals || s.namespaces)) {
            report('WEFT-VALUE', 'serviceAccounts may not stand with principals or namespaces', at);
          }
          return Object.fromEntries(SOURCE_LISTS.map((k) => [k, s[k] ?? []])) as never;
        });
        const to = ((r?.to ?? []) as Plain[]).map((t, j) => {
          const o = (t?.operation ?? {}) as Record<string, string[]>;
          if (OPERATION_LISTS.every((k) => !o[k]?.length)) {
            report('WEFT-VALUE', 'an empty operation says nothing', `${field}.to[${j}].operation`);
          }
          return Object.fromEntries(OPERATION_LISTS.map((k) => [k, o[k] ?? []])) as never;
        });
        const when = ((r?.when ?? []) as Plain[]).map((w, j) => {
          if (!w?.values?.length && !w?.notValues?.length) {
            report('WEFT-VALUE', 'a condition needs values or notValues', `${field}.when[${j}]`);
          }
          return { key: w?.key ?? '', values: w?.values ?? [], notValues: w?.notValues ?? [] };
        });
        return { field, from, to, when };
      }),
    };
  },
};
