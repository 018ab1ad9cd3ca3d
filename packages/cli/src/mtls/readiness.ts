/** What STRICT would break, judged from what the control plane tells of modes and callers. */
import type { MtlsCaller, MtlsPort, MtlsState, MtlsWorkload } from '@weft/control';

export interface Finding {
  readonly caller: MtlsCaller;
  /** Calls that STRICT lets in no more, or has refused. */
  readonly requests: number;
  readonly lastMs: number;
  /** STRICT refuses it already. */
  readonly refused: boolean;
}

export type Readiness = 'strict' | 'ready' | 'breaks' | 'no proxy' | 'refuses';

/** A policy of the workload's or the port's own goes before one for the namespace, and stays as it is. */
export function isExempt(port: MtlsPort): boolean {
  return port.mode !== 'STRICT' && (port.level === 'workload' || port.level === 'port');
}

/** `namespace/workload`, or the address of somebody outside of the mesh. */
export function callerName(c: MtlsCaller): string {
  if (c.source === '') return `${c.address} (not of the mesh)`;
  return c.injected === true ? `${c.source} (has a proxy, sends plaintext)` : `${c.source} (no proxy)`;
}

/** Callers that STRICT for the namespace would refuse, and those that a STRICT port has refused; the most calls first. */
export function findings(w: MtlsWorkload): Finding[] {
  const found: Finding[] = [];
  for (const caller of w.plaintext) {
    const port = w.ports.find((p) => p.port === caller.port);
    if (port && isExempt(port)) continue;
    if (port?.mode === 'STRICT') {
      if (caller.refused > 0)
        found.push({ caller, requests: caller.refused, lastMs: caller.lastRefusedMs, refused: true });
    } else if (caller.requests > 0) {
      found.push({ caller, requests: caller.requests, lastMs: caller.lastMs, refused: false });
    }
  }
  return found;
}

export function readinessOf(w: MtlsWorkload): Readiness {
  if (!w.injected) return 'no proxy';
  const found = findings(w);
  const strict = w.ports.length > 0 && w.ports.every((p) => p.mode === 'STRICT');
  if (found.some((f) => !f.refused)) return 'breaks';
  if (found.length > 0) return 'refuses';
  return strict ? 'strict' : 'ready';
}

/** `STRICT`, or each port's mode where they differ. */
export function modesOf(w: MtlsWorkload): string {
  const modes = [...new Set(w.ports.map((p) => p.mode))];
  if (modes.length <= 1) return modes[0] ?? 'PERMISSIVE';
  return w.ports.map((p) => `${p.port} ${p.mode}`).join(', ');
}

/** Whether nothing stands in the way of STRICT. */
export function allReady(state: MtlsState): boolean {
  return state.workloads.every((w) => readinessOf(w) === 'ready' || readinessOf(w) === 'strict');
}
