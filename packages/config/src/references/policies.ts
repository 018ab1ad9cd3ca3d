/** Policies and settings that select nothing, or of which only one counts. */
import {
  collectorService,
  findService,
  isAuthorizer,
  labelsMatch,
  providerHost,
  type Resource,
  resolveHost,
} from '@weft/model';
import { list, pairs } from '../words.ts';
import type { Known } from './known.ts';

/** Selectors that select nothing, and levels with two PeerAuthentications. */
export function checkSelectors(known: Known): void {
  const processesBroken = known.model.processes.some((p) => !known.ok(p));
  const { peerAuthentications, authorizationPolicies, requestAuthentications } = known.model;
  const policies = [...peerAuthentications, ...authorizationPolicies, ...requestAuthentications];
  for (const policy of policies) {
    const selector = policy.selector;
    if (processesBroken || !selector || !known.ok(policy)) continue;
    const root = policy.kind !== 'PeerAuthentication' && policy.namespace === known.model.rootNamespace;
    const inReach = known.model.processes.filter((p) => root || p.namespace === policy.namespace);
    const joining = known.model.workloadGroups.filter((g) => root || g.namespace === policy.namespace);
    if (![...inReach.map((p) => p.labels), ...joining.map((g) => g.members)].some((l) => labelsMatch(selector, l))) {
      const message = `the selector {${pairs(selector)}} matches no process: the policy holds for nothing`;
      known.report(policy, 'WEFT-NO-TARGET', message, 'spec.selector', 'warning');
    }
  }
  const first = new Map<string, Resource>();
  for (const p of known.model.peerAuthentications) {
    const general = !p.selector || Object.keys(p.selector).length === 0;
    if (!general) continue;
    const other = first.get(p.namespace);
    if (!other) first.set(p.namespace, p);
    else known.ignored(p, other, `namespace ${p.namespace}`);
  }
}

export function checkMeshDefaults(known: Known): void {
  const first = new Map<string, Resource>();
  for (const d of known.model.meshDefaults) {
    const other = first.get(d.namespace);
    if (!other) first.set(d.namespace, d);
    else known.ignored(d, other, `namespace ${d.namespace}`);
  }
}

/** Their Servers must be there, and each of those have one policy of a kind. */
export function checkRateLimits(known: Known): void {
  const servers = new Map(known.model.servers.map((s) => [`${s.namespace}/${s.name}`, s]));
  for (const policies of [known.model.httpRateLimits, known.model.tcpRateLimits]) {
    const first = new Map<string, Resource>();
    for (const p of policies) {
      if (!known.ok(p)) continue;
      const key = `${p.namespace}/${p.server}`;
      const other = first.get(key);
      if (!servers.has(key)) {
        const there = known.model.servers.filter((s) => s.namespace === p.namespace).map((s) => s.name);
        const message = `there is no Server ${p.server} in namespace ${p.namespace}. Servers there: ${list(there, 'none')}`;
        known.report(p, 'WEFT-NO-TARGET', message, 'spec.targetRef.name');
      } else if (!other) first.set(key, p);
      else known.ignored(p, other, `the Server ${p.server}`);
    }
  }
}

/** The first one counts, and what it calls must be there. */
export function checkMeshConfigs(known: Known): void {
  const [first, ...others] = known.model.meshConfigs;
  for (const m of others) known.ignored(m, first, 'the mesh');
  if (!first || !known.ok(first)) return;
  for (const provider of first.extensionProviders) {
    if (provider.type === 'telemetry' || provider.service === '') continue;
    const [namespace, host = namespace] = provider.service.split('/');
    const from = host === namespace ? first : { ...first, namespace };
    const spans = !isAuthorizer(provider);
    const service = spans
      ? collectorService(known.model, providerHost(provider.service))
      : findService(known.model, resolveHost(host, from.namespace, known.model.domain));
    if (!service && spans) {
      // It may be there and not in the mesh: then its name is asked of DNS.
      const message = `there is no service ${host} in the mesh: spans are sent to what DNS knows by that name`;
      known.report(first, 'WEFT-NO-TARGET', message, `${provider.field}.service`, 'warning');
    } else if (!service) known.serviceOf(first, host, `${provider.field}.service`);
    else if (!service.ports.some((p) => p.port === provider.port))
      known.noPort(first, service, provider.port, `${provider.field}.port`);
  }
}
