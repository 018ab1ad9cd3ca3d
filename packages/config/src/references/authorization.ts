/**
 * HTTP fields in policies of ports that carry TCP. There no request is seen: an ALLOW rule with such a field would match
 * nothing, a DENY rule would deny more than it says. Where a policy plainly means such a port it is
 * refused; where it only reaches one among others, that is said.
 */
import {
  type AuthorizationPolicyModel,
  type AuthorizationRuleModel,
  authorizerPorts,
  isAuthorizer,
  type Model,
  meshConfigOf,
  type ProcessModel,
  policiesWithin,
  policyReach,
  portProtocol,
  type RequestAuthenticationModel,
  refOf,
  servicesSelecting,
  targetPortOn,
} from '@weft/model';
import { list } from '../words.ts';
import type { Report } from './known.ts';

interface HttpField {
  /** Where it stands in the resource. */
  readonly field: string;
  /** Ports that its rule is about; empty: all. */
  readonly ports: readonly number[];
}

export function checkAuthorization(model: Model, broken: ReadonlySet<string>, report: Report): void {
  providers(model, broken, report);
  if (model.processes.some((p) => broken.has(refOf(p)))) return;
  const ports = new Map(model.processes.map((p) => [p, opaquePorts(model, p)]));
  for (const policy of model.authorizationPolicies) {
    if (broken.has(refOf(policy))) continue;
    for (const { field, what, namespaced } of missingTargets(model, policy)) {
      report(policy, namespaced ? 'WEFT-NO-TARGET' : 'WEFT-VALUE', what, field);
    }
    const fields = policy.rules.flatMap(httpFields);
    const selected: ProcessModel[] = [];
    for (const p of model.processes) {
      const known = p.ports.map((x) => ({ number: x.port, name: x.name }));
      const reach = policyReach(model, policy, { ...p, ports: known });
      if (reach === 'all') selected.push(p);
      else if (reach !== undefined) {
        // By a Service: the ports of that Service alone.
        for (const { field, ports: named } of fields) {
          const meant = named.length === 0 ? [...reach] : named.filter((n) => reach.has(n));
          if (meant.length > 0) judge(policy, { field, ports: meant }, [p], ports, report);
        }
      }
    }
    for (const field of fields) judge(policy, field, selected, ports, report);
  }
  for (const policy of model.requestAuthentications) {
    if (broken.has(refOf(policy))) continue;
    for (const { field, what, namespaced } of missingTargets(model, policy)) {
      report(policy, namespaced ? 'WEFT-NO-TARGET' : 'WEFT-VALUE', what, field);
    }
  }
}

/** Targets that are not there: the policy would hold for nothing, and nobody would notice. */
function missingTargets(
  model: Model,
  { namespace, targets = [] }: AuthorizationPolicyModel | RequestAuthenticationModel,
): { field: string; what: string; namespaced: boolean }[] {
  return targets.flatMap(({ kind, name, field }): { field: string; what: string; namespaced: boolean }[] => {
    const gateways = model.gateways.filter((g) => g.gatewayApi);
    if (kind === 'GatewayClass') {
      if (namespace !== model.rootNamespace) {
        const what = `a GatewayClass is named by policies of ${model.rootNamespace} alone, this one is of ${namespace}`;
        return [{ field: `${field}.kind`, what, namespaced: false }];
      }
      const classes = [...model.gatewayClasses.map((c) => c.name), ...gateways.map((g) => g.className)];
      if (classes.includes(name)) return [];
      const what = `there is no GatewayClass ${name}, and no Gateway of it. There are: ${list([...new Set(classes)], 'none')}`;
      return [{ field: `${field}.name`, what, namespaced: true }];
    }
    const near: readonly { name: string; namespace: string }[] =
      kind === 'Gateway' ? gateways : model.services.filter((s) => !s.external);
    const names = near.filter((r) => r.namespace === namespace).map((r) => r.name);
    if (names.includes(name)) return [];
    const what = `there is no ${kind} ${name} in namespace ${namespace}. ${kind}s there: ${list(names, 'none')}`;
    return [{ field: `${field}.name`, what, namespaced: true }];
  });
}

/** Who decides in the place of a CUSTOM policy must be among the mesh settings' authorizers. */
function providers(model: Model, broken: ReadonlySet<string>, report: Report): void {
  const settings = meshConfigOf(model);
  if (settings && broken.has(refOf(settings))) return;
  const known = (settings?.extensionProviders ?? []).filter(isAuthorizer).map((p) => p.name);
  for (const policy of model.authorizationPolicies) {
    if (policy.action !== 'CUSTOM' || policy.provider === '' || broken.has(refOf(policy))) continue;
    if (known.includes(policy.provider)) {
      const itself = model.processes.find((p) => asksItself(model, policy, p));
      if (itself) {
        const message = `${policy.provider} would be asked of the very calls that ask it: the policy is for ${itself.namespace}/${itself.name} too, which is behind it. Narrow it by a selector or by ports`;
        report(policy, 'WEFT-VALUE', message, 'spec.provider.name');
      }
      continue;
    }
    const there = `Authorizers there: ${list(known, 'none')}`;
    const message = `there is no authorizer ${policy.provider} in the mesh settings' extensionProviders. ${there}`;
    report(policy, 'WEFT-NO-TARGET', message, 'spec.provider.name');
  }
}

/** Whether the question whether a call to the authorizer may pass would be a call to the authorizer. */
function asksItself(model: Model, policy: AuthorizationPolicyModel, process: ProcessModel): boolean {
  const workload = { ...process, ports: process.ports.map((p) => ({ number: p.port, name: p.name })) };
  const [own] = policiesWithin(model, [policy], workload);
  if (!own) return false;
  const includes = (list: readonly string[], port: number): boolean => list.some((p) => Number(p) === port);
  return [...authorizerPorts(model, policy.provider, workload)].some((port) =>
    own.rules.some(
      (r) =>
        r.to.length === 0 ||
        r.to.some((o) => (o.ports.length === 0 || includes(o.ports, port)) && !includes(o.notPorts, port)),
    ),
  );
}

/** Ports of a process, and which of them are declared as TCP or as the application's own TLS. */
function opaquePorts(model: Model, process: ProcessModel): { all: Set<number>; opaque: Set<number> } {
  const declared = process.ports.map((p) => ({ number: p.port, name: p.name }));
  const all = new Set(declared.map((p) => p.number));
  const opaque = new Set<number>();
  const said = new Set<number>();
  for (const service of servicesSelecting(model, process)) {
    for (const port of service.ports) {
      const target = port.transport === 'TCP' ? targetPortOn(port, { ports: declared as never }) : undefined;
      if (target === undefined || said.has(target)) continue;
      said.add(target);
      all.add(target);
      if (port.protocol === 'detect') said.delete(target);
      else if (port.protocol === 'tcp' || port.protocol === 'tls') opaque.add(target);
    }
  }
  for (const { number, name } of declared) {
    const protocol = portProtocol(undefined, name, number);
    if (!said.has(number) && (protocol === 'tcp' || protocol === 'tls')) opaque.add(number);
  }
  return { all, opaque };
}

function httpFields(rule: AuthorizationRuleModel): HttpField[] {
  const numbers = (values: readonly string[]): number[] => values.map(Number);
  const whenPorts = rule.when.filter((c) => c.key === 'destination.port').flatMap((c) => numbers(c.values));
  const found: HttpField[] = [];
  for (const [i, to] of rule.to.entries()) {
    const ports = to.ports.length > 0 ? numbers(to.ports) : whenPorts;
    for (const name of ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'] as const) {
      if (to[name].length > 0) found.push({ field: `${rule.field}.to[${i}].operation.${name}`, ports });
    }
  }
  const toPorts = rule.to.every((to) => to.ports.length > 0) ? rule.to.flatMap((to) => numbers(to.ports)) : [];
  const rulePorts = toPorts.length > 0 ? toPorts : whenPorts;
  for (const [i, from] of rule.from.entries()) {
    for (const name of ['requestPrincipals', 'notRequestPrincipals'] as const) {
      if (from[name].length > 0) found.push({ field: `${rule.field}.from[${i}].source.${name}`, ports: rulePorts });
    }
  }
  for (const [i, c] of rule.when.entries()) {
    if (!c.key.startsWith('request.')) continue;
    found.push({ field: `${rule.field}.when[${i}].key`, ports: rulePorts });
  }
  return found;
}

function judge(
  policy: AuthorizationPolicyModel,
  { field, ports }: HttpField,
  selected: readonly ProcessModel[],
  known: ReadonlyMap<ProcessModel, { all: Set<number>; opaque: Set<number> }>,
  report: Report,
): void {
  const effect =
    policy.action === 'ALLOW'
      ? 'an ALLOW rule with it never matches there'
      : `a ${policy.action} rule would match there without it, more than it says`;
  const reached: string[] = [];
  for (const process of selected) {
    const { all, opaque } = known.get(process)!;
    const hit = [...opaque].filter((p) => ports.length === 0 || ports.includes(p));
    if (hit.length === 0) continue;
    const named = ports.length > 0;
    const nothingElse = policy.selector !== undefined && hit.length === all.size;
    const wider = policy.selector !== undefined && policy.action !== 'ALLOW';
    const where = `port ${list(hit.map(String), '')} of ${process.namespace}/${process.name}`;
    if (named || nothingElse || wider) {
      const help = named || nothingElse ? 'leave the field out' : 'name the HTTP ports in "ports"';
      const message = `${where} carries TCP, where no request is seen: ${effect}. For that port ${help}, or declare it as HTTP`;
      report(policy, 'WEFT-TCP-POLICY', message, field);
      return;
    }
    reached.push(where);
  }
  if (reached.length === 0) return;
  const message = `reaches ${list(reached, '')}, which carries TCP, where no request is seen: ${effect}. Say "ports" to leave it out`;
  report(policy, 'WEFT-TCP-POLICY', message, field, 'warning');
}
