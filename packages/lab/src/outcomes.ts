/** Ways in which draws fall → an explanation. */
import type { Leaf } from './explore.ts';
import type { Fate } from './fate.ts';
import type { Notes } from './notes.ts';
import type { Explanation, Outcome, Question, Way } from './types.ts';

export function explanation(notes: Notes, question: Question, leaves: readonly Leaf<Fate>[]): Explanation {
  const ways = leaves.map(({ probability, value, draws }): Way => ({ ...value, probability, draws }));
  const { steps, missing, touched } = notes;
  return { question, outcomes: merge(ways), steps, ways, missing: [...missing], touched };
}

/** Equal outcomes together, the most likely first. */
function merge(ways: readonly Way[]): Outcome[] {
  const merged = new Map<string, Outcome>();
  for (const {
    draws: _draws,
    sent: _sent,
    responseOps: _ops,
    end: _end,
    grpcStatus: _code,
    perTryTimeoutMs: _perTry,
    retryOn: _on,
    probability,
    ...rest
  } of ways) {
    const key = JSON.stringify(rest);
    const known = merged.get(key);
    merged.set(key, { probability: (known?.probability ?? 0) + probability, ...rest });
  }
  return [...merged.values()].sort((a, b) => b.probability - a.probability);
}
