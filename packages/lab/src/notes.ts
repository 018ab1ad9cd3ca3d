/** The steps of an explanation as they are found; the same step is said once. */
import type { Backing, LabMesh } from './mesh.ts';
import type { RuleReference, Step, StepKind, TokenQuestion } from './types.ts';

export class Notes {
  readonly steps: Step[] = [];
  readonly missing = new Set<string>();
  readonly touched = new Set<string>();
  /** What the request carries on the way that is looked at. */
  token: TokenQuestion | undefined;
  /** What a client's proxy does is now done by a gateway. */
  atGateway = false;
  readonly #mesh: LabMesh;
  readonly #said = new Set<string>();

  constructor(mesh: LabMesh, token: TokenQuestion | undefined) {
    this.#mesh = mesh;
    this.token = token;
  }

  add(who: Step['side'], kind: StepKind, decision: string, because: string, ref = ''): void {
    const side = this.atGateway && who === 'client' ? 'gateway' : who;
    const key = `${side}|${kind}|${decision}|${ref}|${because}`;
    if (this.#said.has(key)) return;
    this.#said.add(key);
    this.steps.push({ side, kind, decision, because, reference: this.#mesh.reference(ref) });
  }

  /** Rules that had a say, for coverage. Empty refs are left out. */
  touch(...refs: readonly (string | undefined)[]): void {
    for (const ref of refs) if (ref) this.touched.add(ref);
  }

  /** Instances of a service, ready or not. */
  backing(host: string): readonly Backing[] {
    return this.#mesh.backing(host);
  }

  references(...refs: readonly string[]): RuleReference[] {
    const out: RuleReference[] = [];
    this.touch(...refs);
    for (const ref of new Set(refs)) {
      const found = this.#mesh.reference(ref);
      if (found) out.push(found);
    }
    return out;
  }
}
