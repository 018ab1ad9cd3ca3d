/** A mesh test as it is written: a request, and what is expected of it. */
import type { Question, RuleReference } from '../types.ts';

export type Decision = 'allowed' | 'denied' | 'answered' | 'unreachable';

/** Where a part of the requests goes; what is not said may be anything. */
export interface DestinationExpectation {
  readonly service: string | undefined;
  readonly subset: string | undefined;
  readonly workload: string | undefined;
  /** Percent of the requests that are sent anywhere; undefined: more than none. */
  readonly share: number | undefined;
  readonly line: number;
}

export interface HeadExpectation {
  readonly path?: string;
  readonly host?: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly without: readonly string[];
}

export interface Expectation {
  readonly decision?: Decision;
  /** Rules that decided: `Kind/namespace/name`, perhaps with `#field`. */
  readonly by: readonly string[];
  readonly status?: number;
  readonly to?: readonly DestinationExpectation[];
  readonly mirrors?: readonly DestinationExpectation[];
  readonly timeoutMs?: number;
  readonly retries?: { readonly attempts?: number; readonly perTryTimeoutMs?: number; readonly retryOn?: string };
  readonly delay?: { readonly percentage: number; readonly delayMs: number };
  readonly abort?: { readonly percentage: number; readonly httpStatus?: number; readonly grpcStatus?: number };
  readonly location?: string;
  readonly mtls?: boolean;
  readonly sent?: HeadExpectation;
  readonly response?: HeadExpectation;
}

export interface MeshTest {
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly question: Question;
  readonly expect: Expectation;
  /** Line of a field of it, as `expect.timeout`. */
  lineOf(field: string): number;
}

export interface Failure {
  readonly line: number;
  readonly message: string;
}

export interface TestResult {
  readonly test: MeshTest;
  /** None: it passed. */
  readonly failures: readonly Failure[];
  /** What happens in fact, as a tree of probabilities, and which rules decide it; empty where it could not be asked. */
  readonly outcomes: readonly string[];
  readonly decidedBy: readonly RuleReference[];
}
