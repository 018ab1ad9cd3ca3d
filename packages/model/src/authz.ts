/** Which AuthorizationPolicies hold for a workload, as the plan says them. */
import { create } from '@bufbuild/protobuf';
import {
  type Authorization,
  AuthorizationAction,
  AuthorizationConditionSchema,
  AuthorizationOperationSchema,
  AuthorizationPolicySchema,
  AuthorizationRuleSchema,
  AuthorizationSchema,
  AuthorizationSourceSchema,
  ExternalAuthorizerSchema,
  outboundClusterName,
  type TokenRule,
  TokenRuleSchema,
} from '@weft/plan';
import { resolveHost, serviceHost } from './hosts.ts';
import { targetPortOn } from './inbound-ports.ts';
import { providersFor } from './intentions.ts';
import { keySourceOf } from './key-sources.ts';
import { servicesSelecting } from './lookup.ts';
import { type ExtAuthzGrpcModel, type ExtAuthzHttpModel, isAuthorizer, meshConfigOf } from './mesh-config.ts';
import { type PolicyWorkload, policiesWithin, policyReach, type Reach } from './policy-targets.ts';
import type { RefTable } from './refs.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import type { AuthorizationPolicyModel, TokenRuleModel } from './types/security.ts';

const NO_KEYS: ReadonlyMap<string, string> = new Map();

const ACTIONS = {
  ALLOW: AuthorizationAction.ALLOW,
  DENY: AuthorizationAction.DENY,
  AUDIT: AuthorizationAction.AUDIT,
  CUSTOM: AuthorizationAction.CUSTOM,
};

/** The policies for a workload, as they are written. */
export function authorizationFor(model: Model, workload: PolicyWorkload): readonly AuthorizationPolicyModel[] {
  return model.authorizationPolicies.filter((p) => policyReach(model, p, workload) !== undefined);
}

/**
 * Principals and trust domains, written by each name of the mesh's own trust domain where they are by one of them: its name
 * and its aliases mean the same.
 */
export function byEveryName(patterns: readonly string[], names: readonly string[]): string[] {
  if (names.length < 2) return [...patterns];
  return patterns.flatMap((pattern) => {
    const slash = pattern.indexOf('/');
    const domain = slash < 0 ? pattern : pattern.slice(0, slash);
    const rest = slash < 0 ? '' : pattern.slice(slash);
    return names.includes(domain) ? names.map((name) => name + rest) : [pattern];
  });
}

/** The name of the mesh's own trust domain, and its aliases. */
export function trustDomainNames(model: Model, trustDomain: string): string[] {
  return [...new Set([trustDomain, ...(meshConfigOf(model)?.trustDomainAliases ?? [])])];
}

/** `trustDomain`: the mesh's own; its aliases are in the mesh's settings. */
export function compileAuthorization(
  model: Model,
  workload: PolicyWorkload,
  refs: RefTable,
  keySets: ReadonlyMap<string, string> = NO_KEYS,
  trustDomain = 'cluster.local',
): Authorization {
  const names = trustDomainNames(model, trustDomain);
  const all = (patterns: readonly string[]): string[] => byEveryName(patterns, names);
  const policies = policiesWithin(model, model.authorizationPolicies, workload);
  return create(AuthorizationSchema, {
    authorizers: authorizersOf(model, policies, refs),
    // A token that both name counts as an intention's provider has it: the first rule that finds it good says what becomes of it.
    tokens: [
      ...providersFor(model, workload).map((p) => tokenRule(p, p.rule, 'all', keySets, refs)),
      ...model.requestAuthentications.flatMap((r) => {
        const reach = policyReach(model, r, workload);
        return reach === undefined ? [] : r.rules.map((t) => tokenRule(r, t, reach, keySets, refs));
      }),
    ],
    policies: policies.map((p) =>
      create(AuthorizationPolicySchema, {
        ref: refs.use(p),
        name: p.name,
        namespace: p.namespace,
        action: ACTIONS[p.action],
        provider: p.provider,
        dryRun: p.dryRun,
        rules: p.rules.map((r) =>
          create(AuthorizationRuleSchema, {
            ref: refs.use(p, r.field),
            from: r.from.map((s) =>
              create(AuthorizationSourceSchema, {
                principals: all(s.principals),
                notPrincipals: all(s.notPrincipals),
                namespaces: [...s.namespaces],
                notNamespaces: [...s.notNamespaces],
                ipBlocks: [...s.ipBlocks],
                notIpBlocks: [...s.notIpBlocks],
                serviceAccounts: s.serviceAccounts.map((a) => qualified(a, p.namespace)),
                notServiceAccounts: s.notServiceAccounts.map((a) => qualified(a, p.namespace)),
                trustDomains: all(s.trustDomains),
                notTrustDomains: all(s.notTrustDomains),
                remoteIpBlocks: [...s.remoteIpBlocks],
                notRemoteIpBlocks: [...s.notRemoteIpBlocks],
                requestPrincipals: [...s.requestPrincipals],
                notRequestPrincipals: [...s.notRequestPrincipals],
              }),
            ),
            to: r.to.map((o) =>
              create(AuthorizationOperationSchema, {
                hosts: [...o.hosts],
                notHosts: [...o.notHosts],
                ports: [...o.ports],
                notPorts: [...o.notPorts],
                methods: [...o.methods],
                notMethods: [...o.notMethods],
                paths: [...o.paths],
                notPaths: [...o.notPaths],
              }),
            ),
            when: r.when.map((c) =>
              create(AuthorizationConditionSchema, {
                key: c.key,
                values: c.key === 'source.principal' ? all(c.values) : [...c.values],
                notValues: c.key === 'source.principal' ? all(c.notValues) : [...c.notValues],
              }),
            ),
          }),
        ),
      }),
    ),
  });
}

function tokenRule(
  r: Resource,
  t: TokenRuleModel,
  reach: Reach,
  keySets: ReadonlyMap<string, string>,
  refs: RefTable,
): TokenRule {
  const source = keySourceOf(t)?.name ?? '';
  return create(TokenRuleSchema, {
    ref: refs.use(r, t.field),
    ports: reach === 'all' ? [] : [...reach],
    // Without keys, no token of the issuer is good.
    jwks: source === '' ? t.jwks : (keySets.get(source) ?? ''),
    keySource: source,
    ...{ provider: t.provider ?? '', clockSkewMs: t.clockSkewMs ?? 0 },
    ...{ issuer: t.issuer, forward: t.forward, payloadHeader: t.payloadHeader },
    audiences: [...t.audiences],
    headers: t.headers.map((h) => ({ ...h })),
    params: [...t.params],
    wordClaims: [...t.wordClaims],
    cookies: [...t.cookies],
    claimHeaders: t.claimHeaders.map((c) => ({ header: c.header, claim: [...c.claim] })),
  });
}

type Authorizer = ExtAuthzHttpModel | ExtAuthzGrpcModel;

/** Whom the CUSTOM policies name, as the mesh settings have them. */
function authorizersNamed(model: Model, policies: readonly AuthorizationPolicyModel[]): readonly Authorizer[] {
  const names = new Set(policies.filter((p) => p.action === 'CUSTOM').map((p) => p.provider));
  const all = meshConfigOf(model)?.extensionProviders ?? [];
  return all.filter(isAuthorizer).filter((p) => names.has(p.name));
}

/** Ports of a workload by which an authorizer is asked; empty: it is none. */
export function authorizerPorts(model: Model, name: string, workload: PolicyWorkload): ReadonlySet<number> {
  const ports = new Set<number>();
  for (const a of meshConfigOf(model)?.extensionProviders ?? []) {
    if (!isAuthorizer(a) || a.name !== name) continue;
    const host = authorizerHost(model, a);
    for (const service of servicesSelecting(model, workload)) {
      if (serviceHost(service, model.domain) !== host) continue;
      for (const port of service.ports) {
        const target = port.port === a.port ? targetPortOn(port, { ports: workload.ports ?? [] }) : undefined;
        if (target !== undefined) ports.add(target);
      }
    }
  }
  return ports;
}

/** `[namespace/]host`; a short name belongs to the namespace of the settings. */
function authorizerHost(model: Model, authorizer: Authorizer): string {
  const [first, second] = authorizer.service.split('/');
  const namespace = second === undefined ? (meshConfigOf(model)?.namespace ?? model.rootNamespace) : first;
  return resolveHost(second ?? first, namespace, model.domain);
}

/** Services that some proxy asks whether requests may pass: every proxy is told how to reach them. */
export function authorizerHosts(model: Model): readonly string[] {
  return authorizersNamed(model, model.authorizationPolicies).map((a) => authorizerHost(model, a));
}

function authorizersOf(model: Model, policies: readonly AuthorizationPolicyModel[], refs: RefTable) {
  return authorizersNamed(model, policies).map((a) => {
    const host = authorizerHost(model, a);
    const { name, port, timeoutMs, failOpen, statusOnError, body } = a;
    return create(ExternalAuthorizerSchema, {
      ...{ name, timeoutMs, failOpen, statusOnError },
      ref: refs.use(meshConfigOf(model)!, a.field),
      cluster: outboundClusterName(port, '', host),
      authority: `${host}:${port}`,
      grpc: a.type === 'extAuthzGrpc',
      ...(body && { maxBodyBytes: body.maxBytes, partialBody: body.allowPartial, bodyAsBytes: body.asBytes }),
      ...(a.type === 'extAuthzHttp' && {
        pathPrefix: a.pathPrefix,
        requestHeaders: [...a.includeRequestHeaders],
        additionalHeaders: a.additionalHeaders.map(([header, value]) => ({ name: header, value })),
        upstreamHeaders: [...a.headersToUpstreamOnAllow],
        allowHeaders: [...a.headersToDownstreamOnAllow],
        denyHeaders: [...a.headersToDownstreamOnDeny],
      }),
    });
  });
}

/** `cart` in a policy of namespace shop is `shop/cart`. */
function qualified(account: string, namespace: string): string {
  return account.includes('/') ? account : `${namespace}/${account}`;
}
