/** What a question is, and what its answer looks like. */
import type { HeaderOps } from '@weft/engine';

/** A written rule, or where it has no file, its kind, namespace, name and field alone. */
export interface RuleReference {
  /** `VirtualService/shop/payment`. */
  readonly resource: string;
  readonly field: string;
  /** Empty where the source has no files. */
  readonly file: string;
  readonly line: number;
}

export interface Question {
  /**
   * `namespace/workload`, an instance's name, or a workload's name where only one namespace has it; or `outside`: somebody
   * without a proxy and an identity.
   */
  readonly from: string;
  /**
   * `payment:8080`, `payment.shop`, or an address; without a port the service's only one. From `outside` a workload and the
   * port where it listens: `shop/ingressgateway:8080`.
   */
  readonly to: string;
  /** Default GET. */
  readonly method?: string;
  /** Default `/`. */
  readonly path?: string;
  /** Names in any case, in order. `host` replaces the authority. */
  readonly headers?: readonly (readonly [string, string])[];
  /** The request carries this JSON Web Token. */
  readonly token?: TokenQuestion;
  /** The client speaks no HTTP; a port that is declared TCP or TLS is asked so in any case. */
  readonly tcp?: boolean;
  /** The connection begins with TLS and asks for this name. Implies `tcp`, but at a gateway, which ends the TLS. */
  readonly sni?: string;
}

/** A token whose signature and times are good. */
export interface TokenQuestion {
  readonly issuer: string;
  readonly subject?: string;
  readonly audiences?: readonly string[];
  /** Beyond these. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

export type StepKind =
  | 'caller'
  | 'service'
  | 'protocol'
  | 'request'
  | 'rule'
  | 'fault'
  | 'weights'
  | 'mirror'
  | 'change'
  | 'cluster'
  | 'endpoint'
  | 'limit'
  | 'transport'
  | 'timeout'
  | 'retry'
  | 'authenticate'
  | 'authorize'
  | 'application';

export interface Step {
  readonly kind: StepKind;
  /** `client` (and its proxy), a `gateway` of the mesh between them, or `server`. */
  readonly side: 'client' | 'gateway' | 'server';
  readonly decision: string;
  readonly reference: RuleReference | undefined;
  readonly because: string;
}

/** `application`: what the application answers; `connected` and `closed` are said of connections. */
export type OutcomeStatus = number | 'application' | 'connected' | 'closed';

export interface Outcome {
  readonly probability: number;
  readonly status: OutcomeStatus;
  /** What decided: route, match, destination, fault, policy. */
  readonly from: readonly RuleReference[];
  readonly cluster: string;
  readonly subset: string;
  /** `payment-v1-0 (10.0.0.7:8080)`; empty where none is asked. */
  readonly endpoint: string;
  readonly instance: string;
  /** Response flags as in the access log: FI, DI, NR, NC, UH, UO; empty for none. */
  readonly flags: string;
  readonly details: string;
  /** An injected delay that comes first. */
  readonly delayMs: number;
  /** Of the response's body, at most, by an injected fault; 0: as fast as it comes. */
  readonly bytesPerSecond: number;
  /** Clusters that get a copy. */
  readonly mirrors: readonly string[];
  /** Over all attempts; 0: none. */
  readonly timeoutMs: number;
  /** At most. */
  readonly retries: number;
  readonly mtls: boolean;
  /** Of a redirect. */
  readonly location: string;
}

/**
 * What an outcome is: the application got it; a policy refused it; the mesh answered in its place, as a rule says; an
 * injected fault did; or nobody could be asked.
 */
export type End = 'allowed' | 'denied' | 'answered' | 'fault' | 'unreachable';

/** An outcome before equal ones are put together: one way in which the draws can fall. */
export interface Way extends Outcome {
  readonly end: End;
  /** The request's head as it goes to the server's side; empty where none goes, and for connections. */
  readonly sent: readonly string[];
  /** Of an injected fault that is one; -1: none. */
  readonly grpcStatus: number;
  /** 0: the route's timeout. */
  readonly perTryTimeoutMs: number;
  /** Conditions of retries, as they are written; none: the defaults. */
  readonly retryOn: readonly string[];
  /** What is done to the answer's head, in this order. */
  readonly responseOps: readonly HeaderOps[];
  /** What an ordinary Random has to give, in this order, for this way to be taken. */
  readonly draws: readonly number[];
}

export interface Explanation {
  readonly question: Question;
  /** Probabilities sum to 1; the most likely first. */
  readonly outcomes: readonly Outcome[];
  readonly steps: readonly Step[];
  readonly ways: readonly Way[];
  /** Instances whose own side could not be looked at, since their plans are not known. */
  readonly missing: readonly string[];
  /** Refs of every rule that had a say in some outcome: it matched, or it set what was done. */
  readonly touched: ReadonlySet<string>;
}
