/** Which policies hold for a workload, and what they say of a request: what `weft authz check` prints. */
import { WeftError } from '@weft/base';
import {
  authenticatePort,
  authorize,
  type CompiledAuthorization,
  canonicalHead,
  findInbound,
  traceAuthorization,
} from '@weft/engine';
import { Protocol } from '@weft/plan';
import { instanceNamed, type LabMesh, type Side } from './mesh.ts';
import { judgeToken } from './token.ts';
import type { RuleReference, TokenQuestion } from './types.ts';

export interface AuthorizationQuestion {
  /** The caller's SPIFFE id without `spiffe://`; undefined: it comes in plaintext. */
  readonly from?: string;
  /** The caller's address; made up where it does not matter. */
  readonly ip?: string;
  /** The workload's port; its first one where it is left out. */
  readonly port?: number;
  /** Undefined: a TCP connection. */
  readonly http?: {
    readonly method: string;
    /** As the client writes it; it is judged in its canonical form. */
    readonly path: string;
    readonly host?: string;
    readonly headers?: readonly (readonly [string, string])[];
    /** A good one that the request carries. */
    readonly token?: TokenQuestion;
  };
}

/** The lists of policies, in words. */
export const POLICY_LABELS = {
  custom: 'CUSTOM',
  deny: 'DENY',
  allow: 'ALLOW',
  audit: 'AUDIT',
  shadowDeny: 'DENY (dry run)',
  shadowAllow: 'ALLOW (dry run)',
  table: 'TABLE',
} as const;
type ListName = Exclude<keyof typeof POLICY_LABELS, 'table'>;
const LISTS = Object.keys(POLICY_LABELS).filter((name) => name !== 'table') as ListName[];

export interface PolicyLine {
  /** `namespace/name`. */
  readonly policy: string;
  readonly action: string;
  readonly rules: number;
  readonly reference: RuleReference | undefined;
}

export interface ConsideredRule {
  readonly policy: string;
  readonly action: string;
  readonly matched: boolean;
  readonly because: string;
  readonly reference: RuleReference | undefined;
}

export interface AuthorizationAnswer {
  /** With `asks`: if all of those let it pass. */
  readonly decision: 'allow' | 'deny';
  /** External authorizers that are asked of it, in order. */
  readonly asks?: readonly string[];
  /** Why in words, as the access log says it of a denial. */
  readonly details: string;
  readonly reference: RuleReference | undefined;
  readonly considered: readonly ConsideredRule[];
}

function sideOf(mesh: LabMesh, workload: string): Side {
  const side = mesh.side(instanceNamed(mesh, workload));
  if (!side) throw new WeftError('lab.plan', `the plan of ${workload} is not known`);
  if (!side.injected) throw new WeftError('lab.plain', `${workload} has no proxy: no policy holds for it`);
  return side;
}

/** The policies that select a workload (`namespace/name`), in the order in which they are asked. */
export function policiesOf(mesh: LabMesh, workload: string): PolicyLine[] {
  const a: CompiledAuthorization = sideOf(mesh, workload).snapshot.authorization;
  const tables = a.tables.map((t) => ({
    policy: t.label,
    action: POLICY_LABELS.table,
    rules: t.rows.length,
    reference: mesh.reference(t.ref),
  }));
  const policies = LISTS.flatMap((list) =>
    a[list].map((p) => ({
      policy: p.label,
      action: POLICY_LABELS[list],
      rules: p.rules.length,
      reference: mesh.reference(p.ref),
    })),
  );
  return [...policies, ...tables];
}

/** Decides as the workload's proxy would. Throws WeftError where the workload or the port is not known. */
export function decide(mesh: LabMesh, workload: string, question: AuthorizationQuestion): AuthorizationAnswer {
  const { snapshot, address } = sideOf(mesh, workload);
  const ports = [...snapshot.inbound.keys()].filter((p) => p > 0);
  const opaque = (p: number): boolean => {
    const protocol = snapshot.inbound.get(p)?.protocol;
    return protocol === Protocol.TCP || protocol === Protocol.TLS;
  };
  const port = question.port ?? ports.find((p) => !question.http || !opaque(p)) ?? ports[0] ?? 0;
  if (question.http && opaque(port)) {
    throw new WeftError('lab.tcp', `port ${port} of ${workload} carries TCP: leave METHOD and PATH out`);
  }
  let head: string[] | undefined;
  if (question.http) {
    const { method, path, host, headers } = question.http;
    const authority = host ?? workload.split('/').at(-1)!;
    head = [':method', method, ':scheme', 'http', ':authority', authority, ':path', path];
    for (const [name, value] of headers ?? []) head.push(name.toLowerCase(), value);
    const problem = canonicalHead(head, snapshot.pathPolicies ? 'reject' : 'keep');
    if (problem) return { decision: 'deny', details: problem.details, reference: undefined, considered: [] };
  }
  if (!authenticatePort(snapshot, port, { mtls: question.from !== undefined })) {
    const ref = findInbound(snapshot, port)?.mtlsRef ?? '';
    const details = question.from === undefined ? 'mtls_required' : 'mtls_disabled';
    return { decision: 'deny', details, reference: mesh.reference(ref), considered: [] };
  }
  const { answer, rule } = judgeToken(snapshot, port, question.http?.token);
  if ('refused' in answer) {
    const details = `jwt_authn_access_denied{${answer.refused}}`;
    return { decision: 'deny', details, reference: mesh.reference(rule?.ref ?? ''), considered: [] };
  }
  const request = {
    ...(question.from !== undefined && { principal: question.from }),
    remoteIp: question.ip ?? '192.0.2.1',
    localIp: address,
    destPort: port,
    ...(head && { head }),
    ...(answer.token && { token: answer.token }),
  };
  const asks: string[] = [];
  let verdict = authorize(snapshot, request);
  while (verdict.ask) {
    asks.push(verdict.ask.name);
    verdict = authorize(snapshot, { ...request, approved: asks });
  }
  const considered = traceAuthorization(snapshot.authorization, request).map((t) => ({
    policy: t.policy,
    action: POLICY_LABELS[t.list],
    matched: t.matched,
    because: t.because,
    reference: mesh.reference(t.ref),
  }));
  return {
    decision: verdict.allow ? 'allow' : 'deny',
    ...(asks.length > 0 && { asks }),
    details: verdict.details,
    reference: mesh.reference(verdict.ref),
    considered,
  };
}
