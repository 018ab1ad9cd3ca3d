/** A difference as people read it. */
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import type { Question, RuleReference } from '../types.ts';
import type { Shares } from './answers.ts';
import type { MeshDiff, RequestChange } from './diff.ts';
import type { DecisionChange, Subject } from './plans.ts';
import { bare } from './structure.ts';

/** Longer values are cut. */
const VALUE_CHARACTERS = 160;
/** Of more workloads the number is said. */
const NAMED_WORKLOADS = 5;
/** Requests to which the same happens; JSON has them all. */
const NAMED_REQUESTS = 12;

const TITLES: Readonly<Record<Subject, string>> = {
  workload: 'the workload itself',
  tls: 'TLS of the mesh',
  service: 'service',
  cluster: 'cluster',
  endpoints: 'endpoints of',
  inbound: 'own port',
  authorization: 'who may call',
  gateway: 'gateway port',
};

/** `show` makes a file's name short. */
export function renderDiff(diff: MeshDiff, show: (file: string) => string = (f) => f): string {
  const lines: string[] = [];
  for (const w of diff.added) lines.push(`+ workload ${w}`);
  for (const w of diff.removed) lines.push(`- workload ${w}`);
  const groups = Map.groupBy(
    diff.changes,
    (c) => `${TITLES[c.subject]} ${c.name}`.trim() + `, for ${whose(c.workloads)}`,
  );
  for (const [title, changes] of groups) {
    if (lines.length > 0) lines.push('');
    lines.push(title);
    for (const c of changes) lines.push(...changeLines(c, show));
  }
  const { requests } = diff;
  if (requests) {
    if (lines.length > 0) lines.push('');
    lines.push(`${requests.asked} requests asked, ${requests.changes.length} go otherwise`);
    if (requests.leftOut > 0)
      lines.push(`${requests.leftOut} more were not asked: narrow it with -n, or name mesh tests`);
    for (const group of alike(requests.changes)) lines.push('', ...requestLines(group, show));
    for (const { question, because } of requests.unanswered)
      lines.push('', `not asked: ${questionText(question)}: ${because}`);
  }
  if (diff.same) lines.push('nothing is decided otherwise');
  return lines.join('\n');
}

function whose(workloads: readonly string[]): string {
  if (workloads.length <= NAMED_WORKLOADS) return workloads.join(', ');
  return `${workloads.slice(0, NAMED_WORKLOADS - 1).join(', ')} and ${workloads.length - NAMED_WORKLOADS + 1} more`;
}

function changeLines(c: DecisionChange, show: (file: string) => string): string[] {
  const field = c.field === '' ? '' : `${c.field} `;
  const places = [...new Set([placeOf(c.references.before, show), placeOf(c.references.after, show)])].filter(Boolean);
  const at = places.length > 0 ? [`      ${places.join(' → ')}`] : [];
  if (c.before === undefined) return [`  + ${field}${valueText(c.after)}`.trimEnd(), ...at];
  if (c.after === undefined) return [`  - ${field}${valueText(c.before)}`.trimEnd(), ...at];
  return [`  ~ ${field}${valueText(c.before)} → ${valueText(c.after)}`, ...at];
}

function placeOf(r: RuleReference | undefined, show: (file: string) => string): string {
  if (!r) return '';
  const rule = r.field ? `${r.resource} ${r.field}` : r.resource;
  return r.file ? `${show(r.file)}:${r.line}  ${rule}` : rule;
}

function valueText(value: JsonValue | undefined): string {
  if (value === undefined) return '';
  const text = readable(bare(value));
  return text.length > VALUE_CHARACTERS ? `${text.slice(0, VALUE_CHARACTERS)}…` : text;
}

/** Without the quotes and braces that only machines need. */
function readable(value: JsonValue, inner = false): string {
  if (Array.isArray(value))
    return value.length === 1 ? readable(value[0], true) : `[${value.map((v) => readable(v, true)).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value as JsonObject).map(([k, v]) => `${k}: ${readable(v, true)}`);
    return inner ? `{ ${entries.join(', ')} }` : entries.join(', ');
  }
  return String(value);
}

/** Requests to which the same happens are said together. */
function alike(changes: readonly RequestChange[]): RequestChange[][] {
  const groups = Map.groupBy(changes, (c) => JSON.stringify([c.changes, ...rulesThatChanged(c)]));
  return [...groups.values()];
}

/** Rules that no longer decide, and those that did not before. */
function rulesThatChanged({ decidedBy }: RequestChange): [RuleReference[], RuleReference[]] {
  const name = (r: RuleReference): string => `${r.resource}#${r.field}`;
  const before = new Set(decidedBy.before.map(name));
  const after = new Set(decidedBy.after.map(name));
  return [decidedBy.before.filter((r) => !after.has(name(r))), decidedBy.after.filter((r) => !before.has(name(r)))];
}

function requestLines(group: readonly RequestChange[], show: (file: string) => string): string[] {
  const [first] = group;
  const lines = group
    .slice(0, NAMED_REQUESTS)
    .map((c) => `${questionText(c.question)}${c.test ? `  (${c.test})` : ''}`);
  if (group.length > lines.length) lines.push(`and ${group.length - lines.length} more`);
  for (const { aspect, before, after } of first.changes)
    lines.push(`  ${aspect.padEnd(14)} - ${sharesText(before)}`, `  ${''.padEnd(14)} + ${sharesText(after)}`);
  const [gone, come] = rulesThatChanged(first);
  for (const r of gone) lines.push(`  decided by     - ${placeOf(r, show)}`);
  for (const r of come) lines.push(`  decided by     + ${placeOf(r, show)}`);
  return lines;
}

function sharesText(shares: Shares): string {
  return Object.entries(shares)
    .map(([text, share]) => (share > 1 - 1e-9 ? text : `${Number((share * 100).toFixed(2))} % ${text}`))
    .join(', ');
}

function questionText(q: Question): string {
  const what = q.tcp ? 'a connection' : `${q.method ?? 'GET'} ${q.path ?? '/'}`;
  const extra = (q.headers ?? []).map(([n, v]) => ` -H '${n}: ${v}'`).join('');
  const more = `${extra}${q.sni !== undefined ? ` --sni ${q.sni}` : ''}${q.token ? ` --token '${JSON.stringify(q.token)}'` : ''}`;
  return `${what} from ${q.from} to ${q.to}${more}`;
}

/** The shape of `-o json`. */
export function diffJson({ touched: _touched, ...diff }: MeshDiff): unknown {
  const bareOrNull = (v: JsonValue | undefined): JsonValue => (v === undefined ? null : bare(v));
  return {
    same: diff.same,
    added: diff.added,
    removed: diff.removed,
    changes: diff.changes.map((c) => ({
      ...c,
      before: bareOrNull(c.before),
      after: bareOrNull(c.after),
      references: { before: c.references.before ?? null, after: c.references.after ?? null },
    })),
    requests: diff.requests ?? null,
  };
}
