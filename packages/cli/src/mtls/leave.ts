/** What taking workloads out of the mesh would break, and in which order it breaks nothing. */
import type { MtlsState, MtlsWorkload } from '@weft/control';
import type { CaptureMode } from '@weft/host';

/** A workload with the account that its certificate names. */
export interface Member {
  readonly namespace: string;
  readonly workload: string;
  readonly serviceAccount: string;
}

export const keyOf = (m: { namespace: string; workload: string }): string => `${m.namespace}/${m.workload}`;

/** `cluster.local/ns/shop/sa/cart` → whether it is this workload's. */
function proves(member: Member, principal: string): boolean {
  return principal.endsWith(`/ns/${member.namespace}/sa/${member.serviceAccount}`);
}

function strictPorts(w: MtlsWorkload): number[] {
  return w.ports.filter((p) => p.mode === 'STRICT').map((p) => p.port);
}

/** A row of the control plane's `/v1/calls`. */
export interface JudgedCall {
  readonly namespace: string;
  readonly workload: string;
  readonly principal: string;
  readonly policy: string;
  readonly denied: boolean;
  readonly requests: number;
}

/** In words, who is let in by a policy now, which may ask for the identity that goes with the proxy. */
export function losesIdentity(leaving: readonly Member[], calls: readonly JudgedCall[]): string[] {
  const goes = new Set(leaving.map(keyOf));
  const sums = new Map<string, number>();
  for (const c of calls) {
    // Where no ALLOW policy selects the workload, nobody asks who it is.
    if (c.denied || c.policy === 'none' || c.principal === '' || goes.has(keyOf(c))) continue;
    const who = leaving.filter((m) => proves(m, c.principal)).map(keyOf);
    if (who.length === 0) continue;
    const what = `${who.join(' or ')} is let in to ${keyOf(c)} by the policy ${c.policy}, which may ask for its identity`;
    sums.set(what, (sums.get(what) ?? 0) + c.requests);
  }
  return [...sums].map(([what, requests]) => `${what}: ${requests} calls seen`);
}

/**
 * In words, whom STRICT would refuse, and where it would no longer hold. Workloads that leave together harm nobody there.
 * With explicit capture nothing stands before an application: who left calls it as it is, and nobody asks.
 */
export function obstacles(leaving: readonly Member[], state: MtlsState, capture: CaptureMode): string[] {
  const found: string[] = [];
  const fate =
    capture === 'explicit' ? 'is STRICT and would be called around its proxy' : 'is STRICT and would refuse it';
  const goes = new Set(leaving.map(keyOf));
  for (const w of state.workloads) {
    const ports = strictPorts(w);
    if (ports.length === 0 || !w.injected) continue;
    if (goes.has(keyOf(w))) {
      const callers = w.verified.map((v) => v.principal).join(', ') || 'nobody yet';
      found.push(
        `${keyOf(w)} is STRICT on ${ports.join(', ')}: without its proxy nobody is asked for a certificate (seen to call it: ${callers})`,
      );
      continue;
    }
    for (const { principal, requests, lastMs } of w.verified) {
      const who = leaving.filter((m) => proves(m, principal)).map(keyOf);
      if (who.length === 0) continue;
      found.push(
        `${who.join(' or ')} calls ${keyOf(w)}, which ${fate}: ${requests} calls seen, the last at ${new Date(lastMs).toISOString()}`,
      );
    }
  }
  return found;
}

/** Who is called before who calls, as far as was seen: a caller's proxy hides that the called one is replaced. */
export function calleesFirst(leaving: readonly Member[], state: MtlsState): Member[] {
  const out: Member[] = [];
  const seen = new Set<string>();
  const visit = (m: Member): void => {
    if (seen.has(keyOf(m))) return;
    seen.add(keyOf(m));
    for (const w of state.workloads) {
      if (!w.verified.some((v) => proves(m, v.principal))) continue;
      const called = leaving.find((l) => keyOf(l) === keyOf(w));
      if (called) visit(called);
    }
    out.push(m);
  };
  for (const m of [...leaving].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))) visit(m);
  return out;
}
