/**
 * Who asked what of a workload, and what its policies said: callers by identity, with method and a template of the path.
 * A proxy collects in `CallAggregator` and sends what was added each second; from the sums policies are suggested, and
 * denials told of.
 */

/** What was added to one kind of call. JSON-safe. */
export interface CallDelta {
  /** SPIFFE id without `spiffe://`; empty: the caller showed none. */
  principal: string;
  /** Workload that calls, as far as it is known. */
  source: string;
  sourceNamespace: string;
  /** The workload's own port; 0 at a gateway. */
  port: number;
  /** Empty for opaque connections, as is `path`. */
  method: string;
  /** As `pathTemplate` writes it. */
  path: string;
  denied: boolean;
  /** `namespace/name` of the policy that decided, or `none`, and its rule. */
  policy: string;
  ref: string;
  /** The dry-run policy that would have denied it, and its rule; empty: none would have. */
  shadowPolicy: string;
  shadowRef: string;
  /** `namespace/name` of the AUDIT policies that matched, with commas; empty: none did. */
  audit: string;
  requests: number;
}

export type CallKey = Pick<CallDelta, 'principal' | 'source' | 'sourceNamespace' | 'port'>;
export type CallOutcome = Pick<CallDelta, 'denied' | 'policy' | 'ref' | 'shadowPolicy' | 'shadowRef' | 'audit'>;

export interface CallLimits {
  /** Rows in all. */
  readonly calls: number;
  /** Paths that one caller keeps apart on one port; past them only the first segment is kept, past twice as many nothing. */
  readonly paths: number;
}

export const defaultCallLimits: CallLimits = { calls: 5000, paths: 100 };

/** Paths whose template is remembered, of one caller on one port. */
const remembered = 512;
/** With the rows above, a report stays well below the 8 MiB that the control plane takes. */
const maxPathChars = 256;

/** Digits, hexadecimal of 8 characters and more, and long mixtures are taken for ids; what a policy cannot name too. */
function isVariable(path: string, from: number, to: number): boolean {
  const length = to - from;
  let digits = 0;
  let hex = 0;
  for (let i = from; i < to; i++) {
    const c = path.charCodeAt(i);
    if (c === 0x2a || c === 0x7b || c === 0x7d) return true; // * { }
    if (c >= 0x30 && c <= 0x39) {
      digits++;
      hex++;
    } else if (c === 0x2d || (c >= 0x61 && c <= 0x66) || (c >= 0x41 && c <= 0x46)) hex++;
  }
  if (digits === 0) return length > 64;
  if (digits === length || length > 64) return true;
  return (hex === length && length >= 8) || (length >= 16 && digits >= 4);
}

/** Whether a target has that template; without making it, for requests. False where it is folded: then it is not known. */
export function fitsTemplate(template: string, target: string): boolean {
  let t = 0;
  let p = 0;
  for (;;) {
    const end = p === target.length || target.charCodeAt(p) === 0x3f;
    if (t === template.length) return end && p <= maxPathChars;
    const c = template.charCodeAt(t);
    if (c === 0x7b) {
      if (template.charCodeAt(t + 2) !== 0x7d) return false; // {**}
      const from = p;
      while (p < target.length && target.charCodeAt(p) !== 0x2f && target.charCodeAt(p) !== 0x3f) p++;
      if (p === from || !isVariable(target, from, p)) return false;
      t += 3;
    } else {
      if (end || c !== target.charCodeAt(p)) return false;
      t++;
      p++;
    }
  }
}

/**
 * A path (canonical, its query is left out) with `{*}` in the place of what looks like an id, as AuthorizationPolicies
 * write it. Paths of more than 256 characters keep their first segment; what is no path (`*`) stays as it is.
 */
export function pathTemplate(target: string): string {
  const query = target.indexOf('?');
  const path = query < 0 ? target : target.slice(0, query);
  if (path.charCodeAt(0) !== 0x2f) return path.slice(0, 16);
  if (path.length > maxPathChars) return foldPath(pathTemplate(path.slice(0, maxPathChars)), 1);
  let out = '';
  let from = 0;
  for (let at = 1; at <= path.length; ) {
    let end = path.indexOf('/', at);
    if (end < 0) end = path.length;
    if (end > at && isVariable(path, at, end)) {
      out += `${path.slice(from, at)}{*}`;
      from = end;
    }
    at = end + 1;
  }
  return out + path.slice(from);
}

/** The template that stands for many: of its first segment (1), or of all paths (2). */
export function foldPath(template: string, level: 1 | 2): string {
  const second = level === 2 ? -1 : template.indexOf('/', 1);
  return second < 0 ? '/{**}' : `${template.slice(0, second)}/{**}`;
}

/** Bounds the templates of one caller on one port: what it was given already stays, new ones are folded past a limit. */
export class PathBudget {
  readonly #limit: number;
  readonly #known = new Set<string>();
  readonly #folded: () => void;

  constructor(limit: number, folded: () => void) {
    this.#limit = limit;
    this.#folded = folded;
  }

  admit(template: string): string {
    if (this.#known.has(template) || template === '') return template;
    if (this.#known.size < this.#limit) {
      this.#known.add(template);
      return template;
    }
    this.#folded();
    const first = foldPath(template, 1);
    if (this.#known.has(first)) return first;
    if (this.#known.size < 2 * this.#limit) {
      this.#known.add(first);
      return first;
    }
    return '/{**}';
  }
}

interface Row extends CallOutcome {
  method: string;
  path: string;
  requests: number;
}

function same(row: Row, method: string, o: CallOutcome): boolean {
  return (
    row.method === method &&
    row.denied === o.denied &&
    row.ref === o.ref &&
    row.shadowRef === o.shadowRef &&
    row.policy === o.policy &&
    row.audit === o.audit &&
    row.shadowPolicy === o.shadowPolicy
  );
}

/** What one caller asks on one port; the observer keeps it and adds to it. */
export class CallSite {
  readonly key: CallKey;
  readonly #owner: CallAggregator;
  #budget: PathBudget;
  /** What was asked for last, and its row. */
  #lastTarget = '';
  #last: Row | undefined;
  /** By the target as it was asked for; cleared where it grows. */
  #seen = new Map<string, Row[]>();
  #rows = new Map<string, Row[]>();
  /** Rows of templates that were used lately, and the place of the last. */
  #recent: (Row | undefined)[] = [undefined, undefined, undefined, undefined];
  #at = 0;

  constructor(key: CallKey, owner: CallAggregator) {
    this.key = key;
    this.#owner = owner;
    this.#budget = owner.budget();
  }

  /** `target` is a request's canonical `:path`; empty for an opaque connection. */
  record(method: string, target: string, outcome: CallOutcome): void {
    let row = this.#last;
    if (row === undefined || target !== this.#lastTarget || !same(row, method, outcome)) {
      row = this.#known(method, target, outcome) ?? this.#find(method, target, outcome);
      this.#lastTarget = target;
      this.#last = row;
    }
    if (row) row.requests++;
  }

  /** The row of the same path, or one used lately: without making a template. */
  #known(method: string, target: string, outcome: CallOutcome): Row | undefined {
    const last = this.#recent[this.#at];
    if (last !== undefined && same(last, method, outcome) && fitsTemplate(last.path, target)) return last;
    const rows = this.#seen.get(target);
    if (rows) for (const row of rows) if (same(row, method, outcome)) return row;
    for (let i = 0; i < this.#recent.length; i++) {
      const row = this.#recent[i];
      if (row === undefined || !same(row, method, outcome) || !fitsTemplate(row.path, target)) continue;
      this.#at = i;
      return row;
    }
    return undefined;
  }

  #find(method: string, target: string, outcome: CallOutcome): Row | undefined {
    const template = target === '' ? '' : pathTemplate(target);
    const row = this.#row(method, this.#budget.admit(template), outcome);
    if (!row) return undefined;
    if (template === target) {
      if (this.#seen.size >= remembered) this.#seen.clear();
      const rows = this.#seen.get(target);
      if (rows) rows.push(row);
      else this.#seen.set(target, [row]);
    } else {
      // What is different each time is not worth to be remembered as it is.
      this.#at = (this.#at + 1) % this.#recent.length;
      this.#recent[this.#at] = row;
    }
    return row;
  }

  #row(method: string, path: string, outcome: CallOutcome): Row | undefined {
    // Methods are the caller's to choose; one that nobody knows is no name to keep.
    const known = method.length <= 20 ? method : 'other';
    let rows = this.#rows.get(path);
    const found = rows?.find((r) => same(r, known, outcome));
    if (found) return found;
    if (!this.#owner.admitRow()) return undefined;
    const row = { ...outcome, method: known, path, requests: 0 };
    if (!rows) this.#rows.set(path, (rows = []));
    rows.push(row);
    return row;
  }

  take(deltas: CallDelta[]): void {
    for (const rows of this.#rows.values()) {
      for (const row of rows) {
        if (row.requests === 0) continue;
        deltas.push({ ...this.key, ...row });
        row.requests = 0;
      }
    }
  }

  forget(): void {
    this.#seen.clear();
    this.#rows.clear();
    this.#budget = this.#owner.budget();
    this.#recent.fill(undefined);
    this.#last = undefined;
  }
}

export class CallAggregator {
  readonly limits: CallLimits;
  readonly #count: (name: string) => void;
  #sites: CallSite[] = [];
  #index = new Map<string, Map<string, CallSite[]>>();
  #rows = 0;

  /** `count` hears `telemetry_calls_folded` and, for what is not counted at all, `telemetry_calls_dropped`. */
  constructor(options: { limits?: Partial<CallLimits>; count?: (name: string) => void } = {}) {
    this.limits = { ...defaultCallLimits, ...options.limits };
    this.#count = options.count ?? (() => {});
  }

  /** Finds or makes a site: once per caller and port, the observer keeps it. */
  site(key: CallKey): CallSite {
    let bySource = this.#index.get(key.principal);
    if (!bySource) this.#index.set(key.principal, (bySource = new Map()));
    let list = bySource.get(key.source);
    if (!list) bySource.set(key.source, (list = []));
    const found = list.find((s) => s.key.port === key.port && s.key.sourceNamespace === key.sourceNamespace);
    if (found) return found;
    const site = new CallSite({ ...key }, this);
    list.push(site);
    this.#sites.push(site);
    return site;
  }

  budget(): PathBudget {
    return new PathBudget(this.limits.paths, () => this.#count('telemetry_calls_folded'));
  }

  /** Whether there is room for one row more. */
  admitRow(): boolean {
    if (this.#rows >= this.limits.calls) {
      this.#count('telemetry_calls_dropped');
      return false;
    }
    this.#rows++;
    return true;
  }

  /** What was added since the last call. A report that is not delivered is lost: keep it. */
  takeDeltas(): CallDelta[] {
    const deltas: CallDelta[] = [];
    for (const site of this.#sites) site.take(deltas);
    // Callers of long ago make room once there is none: their rows are empty, and come back when they do.
    if (this.#rows >= this.limits.calls) {
      for (const site of this.#sites) site.forget();
      this.#rows = 0;
    }
    return deltas;
  }
}
