/** Who is told which rules decided of a request: the callers that a DecisionHeader names, and nobody else. */
import type { Self } from '@weft/plan';
import type { Head } from '@weft/wire';

export const DECISION_HEADER = 'x-weft-decision';

export class Disclosure {
  readonly #callers: readonly string[];
  readonly #namespaces: readonly string[];
  readonly #instance: string;

  private constructor(self: Self) {
    this.#callers = self.decisionCallers;
    this.#namespaces = self.decisionNamespaces;
    this.#instance = self.instance;
  }

  /** Undefined where nobody is told anything. */
  static of(self: Self): Disclosure | undefined {
    return self.decisionCallers.length + self.decisionNamespaces.length > 0 ? new Disclosure(self) : undefined;
  }

  /** A caller at this workload. `principal`: its SPIFFE id. */
  toCaller(principal: string): boolean {
    const id = principal.startsWith('spiffe://') ? principal.slice(9) : principal;
    return id !== '' && this.#callers.some((c) => (c.endsWith('*') ? id.startsWith(c.slice(0, -1)) : c === id));
  }

  /** The own workload, of a request to a service of that namespace. */
  toSelf(namespace: string): boolean {
    return this.#namespaces.some((n) => n === '*' || n === namespace);
  }

  /** One proxy's word. Those of several proxies, joined by ", " as HTTP joins fields, are JSON within brackets. */
  field(reporter: string, epoch: bigint, decisions: string): string {
    const proxy = JSON.stringify(this.#instance);
    return `{"proxy":${proxy},"reporter":"${reporter}","epoch":${epoch},"decisions":${decisions || '{}'}}`;
  }
}

/** Takes the field off a response that did not come from a proxy of the mesh, also where it is spelled with `_`. */
export function dropDecisions(head: Head): void {
  for (let i = 0; i < head.length; i += 2) {
    const name = head[i];
    if (name.length !== DECISION_HEADER.length || name.charCodeAt(0) !== 120) continue;
    if (name.replaceAll('_', '-') !== DECISION_HEADER) continue;
    head.splice(i, 2);
    i -= 2;
  }
}
