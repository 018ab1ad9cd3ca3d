/** What AUDIT and dry-run policies say: a counter and a JSON line. They never change what happens. */
import type { AuthorizationResult } from '@weft/engine';
import type { Core } from '../core.ts';

export interface Judged {
  readonly principal: string | undefined;
  readonly remote: string;
  readonly port: number;
  /** '' for opaque connections. */
  readonly method: string;
  readonly path: string;
}

/** To be told of every decision of a workload's policies. Costs nothing where there are no such policies. */
export function noteAuthorization(
  core: Pick<Core, 'observer' | 'logger'>,
  verdict: AuthorizationResult,
  judged: Judged,
): void {
  const { audit, shadow } = verdict;
  if (audit === undefined && shadow === undefined) return;
  const decision = verdict.allow ? 'allow' : 'deny';
  if (audit) {
    core.observer.count('authorization_audited');
    core.logger.info({ event: 'authorization-audit', policies: audit, decision, ...judged }, 'audited');
  }
  if (!shadow) return;
  core.observer.count(shadow.allow ? 'authorization_dry_run_allowed' : 'authorization_dry_run_denied');
  if (shadow.allow) return;
  const { policy, ref } = shadow;
  core.logger.info({ event: 'authorization-dry-run', policy, ref, decision, ...judged }, 'a dry run would have denied');
}
