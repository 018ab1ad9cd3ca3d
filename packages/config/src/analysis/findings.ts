/** Findings of `weft analyze`, and how people silence those they know of. */
import type { Resource } from '@weft/model';
import type { Problem } from '../problems.ts';
import { CODES, type Severity } from './codes.ts';

/** One thing that is wrong or worth knowing, with its place. */
export interface Finding {
  /** Istio's code (IST…) where there is one, else Kiali's (KIA…), else ours (WEFT-…). See docs/analysis.md. */
  readonly code: string;
  /** Other names of the same finding. */
  readonly also: readonly string[];
  readonly severity: Severity;
  /** `VirtualService/payment`; empty where the document could not be read as a resource. */
  readonly resource: string;
  readonly namespace: string;
  readonly file: string;
  readonly line: number; // 1-based
  readonly field: string;
  readonly message: string;
}

const SUPPRESS = 'galley.istio.io/analyze-suppress';

/** A problem that loading reports, under its public code. */
export function findingOf(p: Problem): Finding {
  const code = publicCode(p);
  const { severity, resource, namespace, file, line, field, message } = p;
  const also = code === 'IST0101' ? (MISSING.get(p.code) ?? []) : (CODES.get(code)?.also ?? []);
  return { code, also, severity, resource, namespace, file, line, field, message };
}

function publicCode({ code, resource, field, severity }: Problem): string {
  const kind = resource.slice(0, resource.indexOf('/'));
  switch (code) {
    case 'WEFT-VALUE':
      if (field === 'spec.runAsUser') return 'IST0144';
      if (field.startsWith('metadata.annotations.')) return 'IST0125';
      break;
    case 'WEFT-NO-GATEWAY':
      return kind.endsWith('Route') ? 'KIA1401' : 'IST0101';
    case 'WEFT-NO-SERVICE':
      if (kind.endsWith('Route')) return 'KIA1402';
      return kind === 'DestinationRule' ? 'IST0174' : 'IST0101';
    case 'WEFT-NO-PORT':
      if (kind === 'Service') return 'KIA0701';
      return field.endsWith('.number') || field.endsWith('.port') ? 'IST0101' : 'IST0112';
    case 'WEFT-HOST-CONFLICT':
      return kind === 'Gateway' ? 'IST0145' : 'IST0109';
    case 'WEFT-NO-TARGET':
      return kind === 'Gateway' ? 'IST0101' : 'IST0127';
    case 'WEFT-NO-EFFECT':
      if (field.endsWith('.weight')) return 'KIA1104';
      return field.endsWith('.appProtocol') ? 'KIA0602' : 'IST0133';
    case 'WEFT-IGNORED':
      return kind === 'PeerAuthentication' ? 'KIA0002' : code;
    default:
      break;
  }
  if (code === 'WEFT-VALUE') return severity === 'error' ? 'IST0106' : 'IST0133';
  return SAME.get(code) ?? code;
}

/** What Kiali calls a reference to what is not there. */
const MISSING = new Map([
  ['WEFT-NO-SERVICE', ['KIA1101']],
  ['WEFT-NO-GATEWAY', ['KIA1102']],
  ['WEFT-NO-SUBSET', ['KIA1107']],
  ['WEFT-NO-TARGET', ['KIA0302']],
]);

const SAME: ReadonlyMap<string, string> = new Map([
  ['WEFT-NO-SUBSET', 'IST0101'],
  ['WEFT-NO-SECRET', 'IST0101'],
  ['WEFT-EMPTY-SUBSET', 'IST0173'],
  ['WEFT-NO-HOST', 'IST0132'],
  ['WEFT-NO-PROVIDER', 'KIA0701'],
  ['WEFT-CERTIFICATE', 'IST0161'],
  ['WEFT-PORT-CONFLICT', 'IST0145'],
  ['WEFT-MTLS-CONFLICT', 'KIA0207'],
  ['WEFT-UNREACHABLE', 'IST0130'],
  ['WEFT-NO-CLASS', 'KIA1504'],
  ['WEFT-NO-LISTENER', 'KIA1401'],
  ['WEFT-NOT-ALLOWED', 'KIA1401'],
  ...['WEFT-FIELD', 'WEFT-YAML', 'WEFT-KIND', 'WEFT-UNSUPPORTED'].map((c) => [c, 'IST0106'] as const),
]);

/** Takes away what the resource itself says is known: the annotation holds codes between commas, or `*`. */
export function suppressedByResource(f: Finding, resource: Pick<Resource, 'annotations'> | undefined): boolean {
  if (!resource || !Object.hasOwn(resource.annotations, SUPPRESS)) return false;
  const codes = resource.annotations[SUPPRESS].split(',').map((c) => c.trim());
  return codes.some((c) => c === '*' || named(f, c));
}

export interface Suppression {
  readonly code: string;
  /** `Kind name.namespace`, where `*` stands for any characters. */
  readonly pattern: string;
}

/** `IST0103=Process payment.shop`, as `istioctl analyze -S` takes it; undefined where it is not of that form. */
export function parseSuppression(text: string): Suppression | undefined {
  const at = text.indexOf('=');
  const code = text.slice(0, at).trim();
  const pattern = text.slice(at + 1).trim();
  return at > 0 && /^[A-Z]+-?[A-Z0-9-]+$/.test(code) && pattern !== '' ? { code, pattern } : undefined;
}

export function suppressed(f: Finding, suppressions: readonly Suppression[]): boolean {
  const [kind, name] = f.resource.split('/');
  const shown = f.namespace ? `${kind} ${name}.${f.namespace}` : `${kind} ${name}`;
  return suppressions.some((s) => named(f, s.code) && globMatches(s.pattern, shown));
}

function named(f: Finding, code: string): boolean {
  return f.code === code || f.also.includes(code);
}

/** In time linear in the text for each `*`: patterns come from users. */
function globMatches(pattern: string, text: string): boolean {
  const parts = pattern.split('*');
  if (parts.length === 1) return pattern === text;
  const first = parts[0];
  const last = parts[parts.length - 1];
  if (!text.startsWith(first) || text.length < first.length + last.length) return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.endsWith(last) && text.length - last.length >= at;
}
