/** Policies: names that nobody has, and policies that nobody enforces (IST0167, KIA0003, 0101–0108, 1301). */
import {
  type AuthorizationPolicyModel,
  type AuthorizationRuleModel,
  findService,
  injected,
  intentionsFor,
  isTarget,
  meshConfigOf,
  mtlsFor,
  type ProcessModel,
  policyReach,
  type Resource,
  serversOf,
  type Targeting,
  workloadOfProcess,
} from '@weft/model';
import { list } from '../words.ts';
import type { Lint } from './lint.ts';

const METHODS = new Set('GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH'.split(' '));

export function lintAuthorization(l: Lint): void {
  const { model, report } = l;
  const hasProxy = new Map(model.processes.map((p) => [p, p.gateway !== undefined || injected(model, p).injected]));
  const selectedBy = new Map<ProcessModel, Resource>();
  for (const policy of [...model.peerAuthentications, ...model.authorizationPolicies]) {
    if (!l.intact(policy)) continue;
    const selected = selects(l, policy);
    if (selected.length > 0 && selected.every((p) => !hasProxy.get(p))) {
      const names = list(
        selected.map((p) => p.name),
        'none',
      );
      report(policy, 'IST0167', `nobody enforces it: ${names} ha${selected.length > 1 ? 've' : 's'} no proxy`, 'spec');
    }
    if (policy.kind !== 'PeerAuthentication' || !policy.selector || Object.keys(policy.selector).length === 0) continue;
    for (const process of selected) {
      const other = selectedBy.get(process);
      if (!other) selectedBy.set(process, policy);
      else {
        const message = `${process.name} already has the PeerAuthentication ${other.name} (${other.source.file}:${other.source.line}): one counts`;
        report(policy, 'KIA0003', message, 'spec.selector');
        break;
      }
    }
  }
  const policies = model.authorizationPolicies.filter((p) => l.intact(p));
  for (const policy of policies) for (const rule of policy.rules) names(l, policy, rule);
  closedServers(l);
  const covered = new Set(policies.flatMap((p) => selects(l, p)));
  for (const process of twoApis(l, policies)) covered.add(process);
  if (policies.length + covered.size === 0) return;
  for (const p of model.processes) {
    if (covered.has(p) || p.gateway || p.ports.length === 0 || !hasProxy.get(p)) continue;
    report(p, 'KIA1301', `no AuthorizationPolicy selects it: everybody may call ${p.name}`, 'metadata');
  }
}

function closedServers({ model, intact, report }: Lint): void {
  for (const server of model.servers) {
    if (!intact(server) || server.accessPolicy !== 'deny') continue;
    const routes = model.inboundRoutes.filter(
      (r) => r.namespace === server.namespace && r.servers.some((s) => s.name === server.name),
    );
    const opened = model.linkerdAuthorizations.some((p) => {
      const { kind, name } = p.target;
      if (p.namespace !== server.namespace || kind === 'Namespace') return p.namespace === server.namespace;
      return kind === 'Server' ? name === server.name : routes.some((r) => isTarget(p, r));
    });
    if (opened) continue;
    const message = `refuses everybody: no AuthorizationPolicy names it. Write one, or an accessPolicy that lets callers in`;
    report(server, 'WEFT-CLOSED', message, 'spec.accessPolicy');
  }
}

/** Processes of which another API than Istio's says something; tells of those of which several do, once a resource. */
function twoApis(l: Lint, policies: readonly AuthorizationPolicyModel[]): ProcessModel[] {
  const { model } = l;
  const told = new Set<Resource>();
  return model.processes.filter((process) => {
    const workload = workloadOfProcess(process);
    const server = [...serversOf(model, workload).values()][0];
    const intentions = intentionsFor(model, workload)[0];
    const istio = policies.find((p) => selects(l, p).includes(process));
    const [first, ...others] = [istio, server, intentions].filter((r) => r !== undefined);
    if (others.length > 0 && first && !told.has(first)) {
      told.add(first);
      const names = others.map((r) => `${r.kind} ${r.name} (${r.source.file}:${r.source.line})`);
      const message = `${process.name} is under ${list(names, '')} as well: a call passes only where all of them let it`;
      l.report(first, 'WEFT-TWO-APIS', message, 'metadata.name');
    }
    return server !== undefined || intentions !== undefined;
  });
}

function selects({ model }: Lint, policy: Resource & Targeting): ProcessModel[] {
  return model.processes.filter((p) => policyReach(model, policy, { ...p, ports: portsOf(p) }) !== undefined);
}

function portsOf(process: ProcessModel): { number: number; name: string }[] {
  return process.ports.map((p) => ({ number: p.port, name: p.name }));
}

function names(l: Lint, policy: AuthorizationPolicyModel, rule: AuthorizationRuleModel): void {
  const { model, report } = l;
  const namespaces = new Set(
    [model.namespaces.map((n) => n.name), [...model.processes, ...model.services].map((r) => r.namespace)].flat(),
  );
  const exact = (words: readonly string[]) => words.filter((w) => !w.includes('*'));
  const needsIdentity: string[] = [];
  for (const [i, from] of rule.from.entries()) {
    const at = `${rule.field}.from[${i}].source`;
    for (const key of ['namespaces', 'notNamespaces'] as const) {
      for (const n of exact(from[key])) {
        if (namespaces.has(n)) continue;
        report(
          policy,
          'KIA0101',
          `there is nothing in namespace ${n}. Namespaces: ${list([...namespaces], 'none')}`,
          `${at}.${key}`,
        );
      }
    }
    for (const key of ['principals', 'notPrincipals'] as const) {
      for (const p of exact(from[key])) principal(l, policy, p, `${at}.${key}`);
    }
    if (from.principals.length + from.namespaces.length + from.serviceAccounts.length > 0) needsIdentity.push(at);
  }
  for (const [i, to] of rule.to.entries()) {
    const at = `${rule.field}.to[${i}].operation`;
    for (const key of ['methods', 'notMethods'] as const) {
      for (const m of exact(to[key])) {
        if (METHODS.has(m)) continue;
        const near = METHODS.has(m.toUpperCase())
          ? `: methods are compared as they are written, ${m.toUpperCase()}`
          : '';
        report(policy, 'KIA0102', `"${m.slice(0, 80)}" is no method of HTTP${near}`, `${at}.${key}`);
      }
    }
    for (const key of ['hosts', 'notHosts'] as const) {
      for (const h of exact(to[key])) {
        const host = h.toLowerCase().replace(/:\d+$/, '');
        if (!host.endsWith(`.svc.${model.domain}`) || findService(model, host)) continue;
        report(policy, 'KIA0104', `there is no service ${host}`, `${at}.${key}`);
      }
    }
  }
  if (needsIdentity.length === 0) return;
  if (policy.action !== 'ALLOW' || model.peerAuthentications.some((p) => !l.intact(p))) return;
  for (const process of selects(l, policy)) {
    const open = process.ports.find((p) => mtlsFor(model, process, p.port).mode === 'DISABLE');
    if (!open) continue;
    const message = `asks who calls, but the port ${open.port} of ${process.name} has mTLS mode DISABLE: no caller can show it, and all are refused`;
    report(policy, 'KIA0105', message, needsIdentity[0]);
    return;
  }
}

function principal({ model, report }: Lint, policy: AuthorizationPolicyModel, name: string, field: string): void {
  const [domain, ns, namespace, sa, account, ...more] = name.split('/');
  if (ns !== 'ns' || sa !== 'sa' || !account || more.length > 0) {
    report(policy, 'KIA0106', `"${name.slice(0, 200)}" is no principal: TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, field);
    return;
  }
  const settings = meshConfigOf(model);
  const own = ['cluster.local', model.domain, settings?.trustDomain, ...(settings?.trustDomainAliases ?? [])];
  if (!own.includes(domain)) {
    report(policy, 'KIA0108', `the trust domain ${domain} is not known here: ${name} cannot be checked`, field);
    return;
  }
  const is = (n: string, a: string) => n === namespace && a === account;
  if (model.processes.some((p) => is(p.namespace, p.serviceAccountName))) return;
  if (model.serviceAccounts.some((a) => is(a.namespace, a.name))) return;
  const have = list([...new Set(model.processes.map((p) => `${p.namespace}/${p.serviceAccountName}`))], 'none');
  report(policy, 'KIA0106', `nobody is ${name}. Service accounts of processes: ${have}`, field);
}
