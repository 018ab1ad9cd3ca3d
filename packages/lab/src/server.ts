/** What the called side makes of a request or a connection: authentication, then authorization in order, then the port. */
import {
  type AuthorizationRequest,
  type AuthorizationResult,
  authenticatePort,
  authorize,
  canonicalHead,
  findInbound,
  type Snapshot,
  traceAuthorization,
} from '@weft/engine';
import { spiffeId } from '@weft/model';
import { type Endpoint, MtlsMode, type RateLimit } from '@weft/plan';
import { POLICY_LABELS } from './authz.ts';
import type { LabMesh, Side } from './mesh.ts';
import type { Notes } from './notes.ts';
import { noteToken } from './token.ts';
import type { End, OutcomeStatus, Step } from './types.ts';

export interface Verdict {
  readonly status: OutcomeStatus;
  readonly end: End;
  readonly flags: string;
  readonly details: string;
  /** Ref of the policy that decided; '' for none. */
  readonly ref: string;
}

const MODES = new Map([
  [MtlsMode.UNSPECIFIED, 'PERMISSIVE (the default)'],
  [MtlsMode.DISABLE, 'DISABLE'],
  [MtlsMode.PERMISSIVE, 'PERMISSIVE'],
  [MtlsMode.STRICT, 'STRICT'],
]);

/** Of a token that nobody here believes. */
export const UNBELIEVED = { status: 401, end: 'denied', flags: '', ref: '' } as const;

/** Who calls: where it has no proxy, `mtls` is false and its identity is not looked at. */
export type Caller = Pick<Side, 'namespace' | 'serviceAccount' | 'address'>;
/** Who is called. */
export type Callee = Pick<Endpoint, 'instance' | 'namespace' | 'workload' | 'address' | 'port' | 'meshPort'>;

/** `head`: as the client's proxy sends it; undefined for a connection. */
export function judge(
  mesh: LabMesh,
  notes: Notes,
  client: Caller,
  e: Callee,
  mtls: boolean,
  head: readonly string[] | undefined,
  sni: string | undefined,
): Verdict {
  const passed: Verdict = {
    status: head ? 'application' : 'connected',
    end: 'allowed',
    flags: '',
    details: '',
    ref: '',
  };
  const where = `${e.namespace}/${e.workload}`;
  const application = (because: string): Verdict => {
    notes.add('server', 'application', `${where} answers`, because);
    return passed;
  };
  if (e.meshPort === 0) return application('it has no proxy: nothing judges the request before it');
  const side = mesh.side(e.instance);
  if (!side) {
    notes.missing.add(e.instance);
    return passed;
  }
  const { snapshot } = side;
  const inbound = findInbound(snapshot, e.port);
  const mode = MODES.get(inbound?.mtls ?? MtlsMode.UNSPECIFIED) as string;
  const how = mtls ? 'the connection is mTLS' : 'the connection is plaintext';
  const ok = authenticatePort(snapshot, e.port, { mtls });
  notes.add(
    'server',
    'authenticate',
    `${where}:${e.port}: ${ok ? 'let in' : 'refused'}`,
    `it is ${mode}, ${how}`,
    inbound?.mtlsRef,
  );
  notes.touch(inbound?.mtlsRef, (head ? inbound?.rateLimit : inbound?.connectionLimit)?.ref);
  if (!ok) {
    const status = head ? 503 : 'closed';
    return { status, end: 'denied', flags: 'UF', details: 'mtls_required', ref: inbound?.mtlsRef ?? '' };
  }
  const request: { -readonly [K in keyof AuthorizationRequest]: AuthorizationRequest[K] } = {
    principal: mtls ? spiffeId(mesh.trustDomain, client.namespace, client.serviceAccount) : undefined,
    remoteIp: client.address,
    destPort: e.port,
    localIp: e.address,
    sni,
  };
  if (head) {
    const sent = [...head];
    const problem = canonicalHead(sent, snapshot.pathPolicies ? 'reject' : 'keep');
    if (problem) {
      notes.add('server', 'request', `refused with ${problem.status}`, problem.details);
      return { status: problem.status, end: 'denied', flags: '', details: problem.details, ref: '' };
    }
    request.head = sent;
    const answer = noteToken(notes, where, 'server', snapshot, e.port);
    if ('refused' in answer) return { ...UNBELIEVED, details: `jwt_authn_access_denied{${answer.refused}}` };
    if (answer.token) request.token = answer.token;
  }
  const verdict = noteAuthorization(notes, where, 'server', snapshot, request);
  if (verdict.allow) noteRate(mesh, notes, e, head ? inbound?.rateLimit : inbound?.connectionLimit, head !== undefined);
  if (verdict.allow) return { ...application(`port ${e.port}`), ref: verdict.ref };
  return { status: head ? 403 : 'closed', end: 'denied', flags: '', details: verdict.details, ref: verdict.ref };
}

/** What is past a rate is known only while it runs. */
function noteRate(mesh: LabMesh, notes: Notes, e: Callee, limit: RateLimit | undefined, http: boolean): void {
  if (!limit) return;
  const where = `${e.namespace}/${e.workload}`;
  const what = http ? 'requests' : 'connections';
  const parts = [
    ...(limit.total > 0 ? [`${limit.total} ${what} a second in all`] : []),
    ...(limit.identity > 0 ? [`${limit.identity} of one caller`] : []),
    ...limit.overrides.map(
      (o) => `${o.requestsPerSecond} of ${o.accounts.map((a) => `${a.namespace}/${a.name}`).join(', ')}`,
    ),
  ];
  const past = http ? 'what is more is answered with 429' : 'what is more is closed';
  const { replicas } = limit;
  const together = replicas > 1 ? `, of its ${replicas} replicas together` : '';
  const divided = replicas > 1 ? `; ${shareText(mesh.rateShare?.(limit.ref, e.instance), replicas, e.instance)}` : '';
  notes.add('server', 'limit', `${where}: ${parts.join(', ')}${together}`, `${past}${divided}`, limit.ref);
}

/** How a limit of several replicas is divided now. */
function shareText(share: number | undefined, replicas: number, instance: string): string {
  if (share === undefined) return `each replica has 1/${replicas}, until it is divided by what their callers want`;
  return `${instance} has ${Math.round(share * 1000) / 10} % of it now, by what the replicas' callers want`;
}

/** What the policies of a workload say, one after the other, and what that comes to. */
export function noteAuthorization(
  notes: Notes,
  where: string,
  side: Step['side'],
  snapshot: Snapshot,
  request: AuthorizationRequest,
): AuthorizationResult {
  for (const t of traceAuthorization(snapshot.authorization, request)) {
    const decision = `${where}: ${POLICY_LABELS[t.list]} ${t.policy} ${t.matched ? 'matches' : 'does not match'}`;
    notes.add(side, 'authorize', decision, t.because, t.ref);
    if (t.matched) notes.touch(t.ref);
  }
  const asked: string[] = [];
  let verdict = authorize(snapshot, request);
  while (verdict.ask) {
    const { name } = verdict.ask;
    const because = 'if that lets it pass, what follows decides';
    notes.add(side, 'authorize', `${where}: asks ${name}`, because, verdict.ref);
    notes.touch(verdict.ref);
    asked.push(name);
    verdict = authorize(snapshot, { ...request, approved: asked });
  }
  notes.touch(verdict.ref);
  const because = verdict.allow
    ? verdict.policy === 'none'
      ? 'no DENY policy matches and no ALLOW policy selects it'
      : `${verdict.policy} allows it`
    : verdict.policy === 'none'
      ? 'ALLOW policies select it and none of them matches'
      : `${verdict.policy} denies it`;
  notes.add(side, 'authorize', `${where}: ${verdict.allow ? 'allowed' : 'denied'}`, because, verdict.ref);
  return verdict;
}
