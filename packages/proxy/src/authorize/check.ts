/** Asks an external authorizer of a request or a connection, and gives its answer in a form that can be acted on. */
import type { Snapshot } from '@weft/engine';
import { speaksHttp2 } from '@weft/engine';
import type { ExternalAuthorizer } from '@weft/plan';
import type { Core } from '../core.ts';
import { type SideAnswer, SideCall, type SideFailure } from '../outbound/side-call.ts';
import { grpcCheckBody, grpcCheckHead, grpcOutcome } from './check-grpc.ts';
import { httpCheckHead, httpOutcome } from './check-http.ts';
import type { CheckOutcome } from './outcome.ts';

/** What is to be decided on. */
export interface Checked {
  /** False: a connection; of what follows only the addresses and the identities count. */
  readonly http: boolean;
  readonly head: readonly string[];
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  readonly requestId: string;
  readonly httpVersion: string;
  readonly body: Uint8Array;
  /** The authorizer is to see bodies, there is one, and it sees only the beginning of this one. */
  readonly bodyAsked: boolean;
  readonly partial: boolean;
  /** Of the whole body, where it has ended; else -1. */
  readonly size: number;
  readonly remoteIp: string;
  readonly remotePort: number;
  /** SPIFFE id; empty: none was proved. */
  readonly principal: string;
  readonly localIp: string;
  readonly localPort: number;
  readonly ownPrincipal: string;
  readonly sni: string;
  readonly wallMs: number;
}

/** The call under way; to be cancelled when nobody waits for it. `tell` hears once, perhaps before this returns. */
export function checkWith(
  core: Core,
  snapshot: Snapshot,
  authorizer: ExternalAuthorizer,
  checked: Checked,
  tell: (outcome: CheckOutcome) => void,
): SideCall | undefined {
  const { observer } = core;
  const told = (outcome: CheckOutcome): void => {
    observer.count(NAMES[outcome.kind]);
    tell(outcome);
  };
  if (!authorizer.grpc && !checked.http) {
    // HTTP has no words for a connection.
    told({ kind: 'error', why: 'not_for_tcp' });
    return undefined;
  }
  const cluster = snapshot.clusters.get(authorizer.cluster);
  const { grpc } = authorizer;
  const answered = (answer: SideAnswer | SideFailure): void => {
    if (typeof answer !== 'string') told(grpc ? grpcOutcome(answer) : httpOutcome(authorizer, answer));
    else {
      if (answer === 'timeout') observer.count('ext_authz_timeout');
      told({ kind: 'error', why: answer });
    }
  };
  return new SideCall(
    core,
    {
      ...{ snapshot, cluster, timeoutMs: authorizer.timeoutMs, maxAnswerBytes: core.limits.authorizerAnswerBytes },
      head: grpc ? grpcCheckHead(authorizer) : httpCheckHead(authorizer, checked),
      body: grpc ? grpcCheckBody(authorizer, checked) : checked.body,
      h2: grpc || speaksHttp2(cluster, false, false, false),
    },
    answered,
  ).start();
}

const NAMES = { allow: 'ext_authz_ok', deny: 'ext_authz_denied', error: 'ext_authz_error' } as const;
