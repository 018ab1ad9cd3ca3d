/** The least ALLOW policies that cover what was seen: what `weft authz suggest` writes. */

/** One kind of call that a workload's proxy let in. Paths are templates (`{*}`, `{**}`). */
export interface SeenCall {
  readonly namespace: string;
  readonly workload: string;
  /** SPIFFE id without `spiffe://`; empty: the caller showed none. */
  readonly principal: string;
  /** Workload that calls, for people to read. */
  readonly source: string;
  readonly port: number;
  /** Empty, as the path: an opaque connection. */
  readonly method: string;
  readonly path: string;
  readonly denied: boolean;
  readonly requests: number;
}

export interface SeenWorkload {
  readonly namespace: string;
  readonly workload: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly injected: boolean;
  readonly gateway?: boolean;
}

export interface SuggestedOperation {
  readonly ports: readonly string[];
  readonly methods: readonly string[];
  readonly paths: readonly string[];
  readonly requests: number;
  /** Of each path. */
  readonly counts: readonly number[];
}

export interface SuggestedRule {
  /** Empty: callers that show no certificate. */
  readonly principals: readonly string[];
  /** Their workloads, for people to read. */
  readonly callers: readonly string[];
  readonly requests: number;
  readonly operations: readonly SuggestedOperation[];
}

export interface SuggestedPolicy {
  readonly name: string;
  readonly namespace: string;
  readonly matchLabels: Readonly<Record<string, string>>;
  readonly workloads: readonly string[];
  readonly requests: number;
  readonly rules: readonly SuggestedRule[];
}

export interface Suggestion {
  readonly policies: readonly SuggestedPolicy[];
  /** Workloads that nobody called: they stay open to everybody. */
  readonly unseen: readonly string[];
  /** What was seen and no policy can name, with why. */
  readonly uncovered: readonly string[];
}

/** Workloads that a policy of their own is for, with the labels that select them and nothing else of the namespace. */
interface Group {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly workloads: string[];
}

/**
 * Pure. What was denied is not covered: it is what a policy refuses already. Versions of one `app` share a policy, so
 * that the next version is under it too.
 */
export function suggestPolicies(
  namespace: string,
  calls: readonly SeenCall[],
  workloads: readonly SeenWorkload[],
): Suggestion {
  const uncovered: string[] = [];
  const unseen: string[] = [];
  const policies: SuggestedPolicy[] = [];
  const here = workloads.filter((w) => w.namespace === namespace && w.injected && !w.gateway);
  for (const group of groupsOf(here, uncovered)) {
    const seen = calls.filter((c) => c.namespace === namespace && !c.denied && group.workloads.includes(c.workload));
    const usable = seen.filter((c) => {
      if (c.path === '' || c.path.startsWith('/')) return true;
      uncovered.push(`${c.method} ${c.path} to ${c.workload} (${c.requests}): a policy cannot name such a path`);
      return false;
    });
    if (usable.length === 0) unseen.push(...group.workloads);
    else policies.push(policyOf(namespace, group, usable));
  }
  const known = new Set(here.map((w) => w.workload));
  const gone = calls.filter((c) => c.namespace === namespace && !c.denied && !known.has(c.workload));
  for (const [workload, list] of Map.groupBy(gone, (c) => c.workload))
    uncovered.push(`${sum(list)} requests to ${workload}: it is a gateway, or no longer there`);
  return { policies, unseen, uncovered };
}

function groupsOf(workloads: readonly SeenWorkload[], uncovered: string[]): Group[] {
  const groups: Group[] = [];
  const apps = Map.groupBy(workloads, (w) => w.labels.app ?? '');
  for (const [app, list] of apps) {
    const names = [...new Set(list.map((w) => w.workload))].sort();
    if (app !== '') {
      groups.push({ name: app, labels: { app }, workloads: names });
      continue;
    }
    for (const name of names) {
      const labels = list.find((w) => w.workload === name)!.labels;
      const others = workloads.filter((w) => w.workload !== name);
      const alone = Object.keys(labels).length > 0 && !others.some((w) => selects(labels, w.labels));
      if (alone) groups.push({ name, labels, workloads: [name] });
      else uncovered.push(`everything to ${name}: no labels select it alone; give it the label app`);
    }
  }
  return groups.sort((a, b) => order(a.name, b.name));
}

function selects(selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

function policyOf(namespace: string, group: Group, calls: readonly SeenCall[]): SuggestedPolicy {
  // What the same callers ask for stands in one rule.
  const asked = Map.groupBy(calls, (c) => `${c.port} ${c.method} ${c.path}`);
  const byCallers = Map.groupBy(asked.values(), (list) =>
    JSON.stringify([...new Set(list.map((c) => c.principal))].sort()),
  );
  const rules: SuggestedRule[] = [];
  for (const [key, lists] of byCallers) {
    const principals = JSON.parse(key) as string[];
    const all = lists.flat();
    // Who shows no certificate cannot be named beside who does.
    for (const named of [principals.filter((p) => p !== ''), principals.filter((p) => p === '')]) {
      if (named.length === 0) continue;
      const theirs = all.filter((c) => named.includes(c.principal));
      const operations = operationsOf(theirs);
      const callers = [...new Set(theirs.map((c) => c.source))].sort();
      rules.push({ principals: named.filter((p) => p !== ''), callers, requests: sum(theirs), operations });
    }
  }
  rules.sort((a, b) => b.requests - a.requests || order(a.principals.join(), b.principals.join()));
  return {
    name: `${group.name}-observed`.slice(0, 253),
    namespace,
    matchLabels: group.labels,
    workloads: group.workloads,
    requests: sum(calls),
    rules,
  };
}

/** One operation for each port and set of methods; methods that go to the same paths stand together. */
function operationsOf(calls: readonly SeenCall[]): SuggestedOperation[] {
  const byMethod = Map.groupBy(calls, (c) => `${c.port} ${c.method}`);
  const alike = Map.groupBy(byMethod.values(), (list) =>
    JSON.stringify([list[0].port, [...new Set(list.map((c) => c.path))].sort()]),
  );
  const operations = [...alike].map(([key, lists]): SuggestedOperation => {
    const [port, paths] = JSON.parse(key) as [number, string[]];
    const all = lists.flat();
    const named = paths.filter((p) => p !== '');
    return {
      ports: port === 0 ? [] : [String(port)],
      methods: [...new Set(all.map((c) => c.method))].filter((m) => m !== '').sort(),
      paths: named,
      requests: sum(all),
      counts: named.map((p) => sum(all.filter((c) => c.path === p))),
    };
  });
  return operations.sort((a, b) => b.requests - a.requests || order(a.methods.join(), b.methods.join()));
}

function sum(calls: readonly SeenCall[]): number {
  return calls.reduce((n, c) => n + c.requests, 0);
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** As a file to apply: in dry run, each rule with the count that justifies it. `since` says in words of what time. */
export function suggestionYaml(namespace: string, s: Suggestion, since: string): string {
  const lines = [
    `# What the workloads of ${namespace} were asked ${since}, and nothing else.`,
    '# Read it first: whoever called is let in by it, also who should not have.',
    '# In dry run: nothing is refused by it. Apply it, look at "weft authz dry-run", then remove the annotation.',
  ];
  for (const w of s.unseen)
    lines.push(comment(`Nobody called ${w}: it has no policy here, and stays open to everybody.`));
  for (const u of s.uncovered) lines.push(comment(`Not covered: ${u}.`));
  for (const policy of s.policies) {
    lines.push(
      '---',
      'apiVersion: security.istio.io/v1',
      'kind: AuthorizationPolicy',
      'metadata:',
      `  name: ${text(policy.name)}`,
      `  namespace: ${text(policy.namespace)}`,
      '  annotations:',
      '    istio.io/dry-run: "true"',
      'spec:',
      '  selector:',
      `    matchLabels: ${comment(policy.workloads.join(', '))}`,
      ...Object.entries(policy.matchLabels).map(([key, value]) => `      ${text(key)}: ${text(value)}`),
      '  action: ALLOW',
      '  rules:',
    );
    for (const rule of policy.rules) lines.push(...ruleLines(rule));
  }
  return `${lines.join('\n')}\n`;
}

function ruleLines(rule: SuggestedRule): string[] {
  const lines = [
    `    ${comment(`${count(rule.requests)} of ${rule.callers.join(', ')}`)}`,
    '    - from:',
    '        - source:',
  ];
  if (rule.principals.length === 0) lines.push('            notPrincipals: ["*"] # callers without a certificate');
  else lines.push('            principals:', ...rule.principals.map((p) => `              - ${text(p)}`));
  const useful = rule.operations.filter((o) => o.ports.length + o.methods.length + o.paths.length > 0);
  if (useful.length > 0) lines.push('      to:');
  for (const o of useful) {
    lines.push(`        - operation: # ${count(o.requests)}`);
    if (o.ports.length > 0) lines.push(`            ports: [${o.ports.map(text).join(', ')}]`);
    if (o.methods.length > 0) lines.push(`            methods: [${o.methods.map(text).join(', ')}]`);
    if (o.paths.length === 0) continue;
    lines.push('            paths:', ...o.paths.map((p, i) => `              - ${text(p)} # ${o.counts[i]}`));
  }
  return lines;
}

function count(requests: number): string {
  return `${requests} ${requests === 1 ? 'request' : 'requests'}`;
}

/** What others chose ends no comment. */
function comment(words: string): string {
  return `# ${words.replace(/[^ -~]/g, '?')}`;
}

/** Always in quotes: what a caller chose must not become YAML. */
function text(value: string): string {
  return JSON.stringify(value);
}
