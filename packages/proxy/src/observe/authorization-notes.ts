/** Decisions of policies as JSON lines: denials, and what AUDIT and dry-run policies say. They never change what happens. */
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

/** To be told of every decision of a workload's policies. Costs nothing where nothing is to be said of it. */
export function noteAuthorization(
  core: Pick<Core, 'observer' | 'logger' | 'decisionLines'>,
  verdict: AuthorizationResult,
  judged: Judged,
): void {
  const { allow, audit, shadow } = verdict;
  if (allow && audit === undefined && shadow === undefined) return;
  const decision = allow ? 'allow' : 'deny';
  const line = (fields: Record<string, unknown>, message: string): void => {
    if (core.decisionLines.take()) core.logger.info({ ...fields, decision, ...judged }, message);
    else core.observer.count('authorization_lines_dropped');
  };
  if (!allow) line({ event: 'authorization-denied', policy: verdict.policy, ref: verdict.ref }, 'denied');
  if (audit) {
    core.observer.count('authorization_audited');
    line({ event: 'authorization-audit', policies: audit }, 'audited');
  }
  if (!shadow) return;
  core.observer.count(shadow.allow ? 'authorization_dry_run_allowed' : 'authorization_dry_run_denied');
  if (shadow.allow) return;
  const { policy, ref } = shadow;
  line({ event: 'authorization-dry-run', policy, ref }, 'a dry run would have denied');
}
