/** What policies say of a connection, external authorizers included. */
import type { AuthorizationResult, Snapshot } from '@weft/engine';
import { checkWith } from '../authorize/check.ts';
import type { Core } from '../core.ts';

export interface ConnectionFacts {
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Undefined: the caller has shown no certificate of the mesh. */
  readonly principal: string | undefined;
  /** Where it came to. */
  readonly port: number;
  /** '' for none. */
  readonly sni: string;
}

/** `approved`: names of the external authorizers that have let it in. */
export type Judge = (snapshot: Snapshot, approved: readonly string[]) => AuthorizationResult;

/** `flags` are for the record of a connection that is refused. */
export type Decided = (verdict: AuthorizationResult, approved: readonly string[], flags: string) => void;

const NOTHING: readonly string[] = [];
const NO_BODY = new Uint8Array(0);

/**
 * Judges, and has every external authorizer that a policy names say its word; the time for it is the authorizer's. `decided`
 * is called once, in this call where nobody is to be asked.
 */
export function judgeConnection(
  core: Core,
  snapshot: Snapshot,
  facts: ConnectionFacts,
  judge: Judge,
  decided: Decided,
  approved: readonly string[] = NOTHING,
): void {
  const verdict = judge(snapshot, approved);
  const authorizer = verdict.ask;
  if (!authorizer) {
    decided(verdict, approved, '');
    return;
  }
  const { remoteAddress: remoteIp, remotePort, principal, port: localPort, sni } = facts;
  const checked = {
    ...{ http: false, head: NOTHING, method: '', path: '', authority: '', requestId: '', httpVersion: '' },
    ...{ body: NO_BODY, bodyAsked: false, partial: false, size: -1, remoteIp, remotePort, principal: principal ?? '' },
    ...{ localIp: core.options.address, localPort, ownPrincipal: core.spiffeId, sni, wallMs: core.wallMs() },
  };
  checkWith(core, snapshot, authorizer, checked, (outcome) => {
    // HTTP has no words for a connection: nothing is open there, whatever the provider says of failures.
    if (outcome.kind === 'error' && authorizer.failOpen && authorizer.grpc)
      core.observer.count('ext_authz_failure_mode_allowed');
    else if (outcome.kind !== 'allow') {
      const details = outcome.kind === 'deny' ? 'ext_authz_denied' : `ext_authz_error{${outcome.why}}`;
      decided({ ...verdict, details }, approved, 'UAEX');
      return;
    }
    judgeConnection(core, snapshot, facts, judge, decided, [...approved, authorizer.name]);
  });
}
