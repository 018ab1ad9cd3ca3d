/** Texts that a match asks for: one for each, so that a rule can be tried. */
import type { HttpMatch, StringMatch } from '@weft/plan';

/** One text that the match holds for; undefined: none was found. */
export function sampleOf(match: StringMatch | undefined): string | undefined {
  switch (match?.kind.case) {
    case 'exact':
    case 'prefix':
      return match.kind.value;
    case 'regex':
      return sampleOfPattern(match.kind.value);
    case 'present':
      return 'x';
  }
  return undefined;
}

export interface SampleRequest {
  readonly method: string;
  readonly path: string;
  /** `host` replaces the authority. */
  readonly headers: readonly (readonly [string, string])[];
}

/** A request that does what the match asks for; an earlier match may still take it. */
export function sampleRequest(match: HttpMatch, host?: string): SampleRequest {
  const headers: [string, string][] = [];
  const authority = sampleOf(match.authority) ?? host;
  if (authority) headers.push(['host', authority]);
  for (const h of match.headers) {
    const value = sampleOf(h.value);
    // Claims of tokens have names with a sign that no header has.
    if (value !== undefined && /^[a-z0-9_-]+$/.test(h.name)) headers.push([h.name, value]);
  }
  let path = sampleOf(match.uri) ?? '/';
  if (!path.startsWith('/')) path = `/${path}`;
  const query = match.queryParams.map(
    (q) => `${encodeURIComponent(q.name)}=${encodeURIComponent(sampleOf(q.value) ?? 'x')}`,
  );
  if (query.length > 0) path += `?${query.join('&')}`;
  return { method: sampleOf(match.method) || 'GET', path, headers };
}

/** One of Istio's patterns: exact, "prefix*", "*suffix", "*", with templates `{*}` and `{**}` in paths. */
export function sampleOfGlob(pattern: string): string {
  const plain = pattern.replaceAll('{**}', 'x/x').replaceAll('{*}', 'x');
  return plain.replace(/^\*|\*$/g, 'x');
}

/**
 * A short text that a regular expression (RE2) holds for: the first of alternatives, as few repetitions as it takes.
 * Undefined for what it does not understand.
 */
export function sampleOfPattern(pattern: string): string | undefined {
  const reader = { text: pattern, at: 0 };
  const sample = alternatives(reader);
  return reader.at === pattern.length ? sample : undefined;
}

interface Reader {
  readonly text: string;
  at: number;
}

function alternatives(r: Reader): string | undefined {
  const first = sequence(r);
  while (r.text[r.at] === '|') {
    r.at++;
    if (sequence(r) === undefined) return undefined;
  }
  return first;
}

function sequence(r: Reader): string | undefined {
  let out = '';
  while (r.at < r.text.length && r.text[r.at] !== '|' && r.text[r.at] !== ')') {
    const one = atom(r);
    if (one === undefined) return undefined;
    out += one.repeat(times(r));
  }
  return out;
}

/** How often at least; behind an atom. */
function times(r: Reader): number {
  const found = /^(?:[*+?]|\{(\d{1,3})(?:,\d*)?\})\??/.exec(r.text.slice(r.at, r.at + 12));
  if (!found) return 1;
  r.at += found[0].length;
  if (found[1] !== undefined) return Number(found[1]);
  return found[0].startsWith('+') ? 1 : 0;
}

const CLASSES: Readonly<Record<string, string>> = { d: '0', w: 'x', s: ' ', D: 'x', W: '-', S: 'x', n: '\n', t: '\t' };

function atom(r: Reader): string | undefined {
  const c = r.text[r.at++];
  switch (c) {
    case '.':
      return 'x';
    case '^':
    case '$':
      return '';
    case '(': {
      const kind = /^\?(?:P?<[A-Za-z0-9_]+>|[a-zA-Z-]*:)/.exec(r.text.slice(r.at, r.at + 80));
      const flags = /^\?[a-zA-Z-]+\)/.exec(r.text.slice(r.at, r.at + 20));
      if (flags) {
        r.at += flags[0].length;
        return '';
      }
      r.at += kind?.[0].length ?? 0;
      const inner = alternatives(r);
      return r.text[r.at++] === ')' ? inner : undefined;
    }
    case '[':
      return oneOf(r);
    case '\\': {
      const next = r.text[r.at++];
      if (next === undefined || /[pPxQEC0-9]/.test(next)) return undefined;
      if (/[bBAz]/.test(next)) return '';
      return CLASSES[next] ?? next;
    }
    case '*':
    case '+':
    case '?':
      return undefined;
  }
  return c;
}

/** A class of characters: the first of it, or what a class that excludes leaves of the usual ones. */
function oneOf(r: Reader): string | undefined {
  const end = /^\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]/.exec(r.text.slice(r.at));
  if (!end) return undefined;
  const source = `[${end[0]}`.replace(/^(\[\^?)\]/, '$1\\]');
  r.at += end[0].length;
  if (source.includes('[:')) return undefined;
  let one: RegExp;
  try {
    one = new RegExp(source, 'u');
  } catch {
    return undefined;
  }
  // What it names itself first: it is what people mean.
  for (const c of `${end[0].replace(/[\^\\\]-]/g, '')}x0A-_/.:aZ~ ${end[0]}`) if (one.test(c)) return c;
  return undefined;
}
