/** One way of an HTTP request through the client's proxy, and on to the server's. */
import type { Random } from '@weft/base';
import {
  type AttemptOutcome,
  affinityHash,
  applyHeaderOps,
  type ClusterView,
  type CompiledHttpRoute,
  canonicalHead,
  drawFault,
  type EndpointView,
  type FaultDecision,
  type ForwardDecision,
  type HeaderOps,
  headValue,
  isGrpcContentType,
  NO_HASH,
  pickEndpoint,
  type RouteView,
  requestParts,
  retryDecision,
  routeHttp,
  type ServicePortView,
  withheld,
} from '@weft/engine';
import { matchText, whyNot } from './conditions.ts';
import { endpointName, noteCluster, noteTransport, WITHHELD } from './endpoints.ts';
import { blankWay, type Fate } from './fate.ts';
import { afterHop, throughGateway } from './hop.ts';
import type { LabMesh, Side } from './mesh.ts';
import type { Notes } from './notes.ts';
import { judge } from './server.ts';
import type { Question } from './types.ts';

/** What a question asks, as a request's head. */
export function headOf(question: Question, to: { readonly host: string; readonly port: number }): string[] {
  const headers = question.headers ?? [];
  const host = headers.find(([name]) => name.toLowerCase() === 'host')?.[1];
  const bare = to.host.includes(':') ? `[${to.host}]` : to.host;
  const head = [':method', question.method ?? 'GET', ':scheme', 'http', ':authority', host ?? `${bare}:${to.port}`];
  head.push(':path', question.path ?? '/');
  for (const [name, value] of headers) if (name.toLowerCase() !== 'host') head.push(name.toLowerCase(), value);
  return head;
}

export function httpWay(
  mesh: LabMesh,
  notes: Notes,
  client: Side,
  view: ServicePortView,
  to: { readonly host: string; readonly port: number },
  question: Question,
  random: Random,
): Fate {
  const head = headOf(question, to);
  const problem = canonicalHead(head, 'keep');
  if (problem) {
    notes.add('client', 'request', `refused with ${problem.status}`, problem.details);
    return { ...blankWay, end: 'answered', status: problem.status, details: problem.details };
  }
  return routedWay(mesh, notes, client, view, head, random);
}

/** From the choice of a route on. `head` is canonical; it is changed as the request is. */
export function routedWay(
  mesh: LabMesh,
  notes: Notes,
  client: Side,
  view: RouteView,
  head: string[],
  random: Random,
  claims?: Readonly<Record<string, unknown>>,
): Fate {
  noteRules(notes, view, head, claims);
  const decision = routeHttp(view, head, random, undefined, claims);
  if (decision.kind === 'none') {
    notes.add('client', 'rule', 'answered with 404', 'no route matches');
    return { ...blankWay, status: 404, flags: 'NR', details: 'route_not_found' };
  }
  const { fault } = decision;
  const delayMs = fault?.delayMs ?? 0;
  const flags = delayMs > 0 ? 'DI' : '';
  const refs =
    decision.kind === 'forward' ? [decision.ref, decision.matchRef, decision.destinationRef] : [decision.ref];
  if (fault && (fault.abortStatus > 0 || fault.abortGrpc >= 0)) {
    return {
      ...blankWay,
      end: 'fault',
      grpcStatus: fault.abortGrpc,
      // A gRPC status travels in an HTTP answer of 200.
      status: fault.abortGrpc >= 0 ? 200 : fault.abortStatus,
      flags: flags ? `${flags},FI` : 'FI',
      details: fault.abortGrpc >= 0 ? `fault_filter_abort (grpc-status ${fault.abortGrpc})` : 'fault_filter_abort',
      from: notes.references(...refs, fault.ref),
      delayMs,
    };
  }
  const from = notes.references(...refs, ...(fault ? [fault.ref] : []));
  if (decision.kind === 'redirect') {
    notes.add(
      'client',
      'rule',
      `redirects with ${decision.status} to ${decision.location}`,
      'the route says so',
      decision.ref,
    );
    const { status, location, responseOps } = decision;
    return {
      ...blankWay,
      end: 'answered',
      status,
      location,
      flags,
      delayMs,
      details: 'direct_response',
      from,
      responseOps,
    };
  }
  if (decision.kind === 'direct') {
    notes.add('client', 'rule', `answers ${decision.status} itself`, 'the route says so', decision.ref);
    const { status, responseOps } = decision;
    return { ...blankWay, end: 'answered', status, flags, delayMs, details: 'direct_response', from, responseOps };
  }
  const bytesPerSecond = fault?.bytesPerSecond ?? 0;
  const base = { ...blankWay, flags, delayMs, bytesPerSecond, from };
  return forward(mesh, notes, client, decision, head, random, base, refs, fault?.ref);
}

function forward(
  mesh: LabMesh,
  notes: Notes,
  client: Side,
  decision: ForwardDecision,
  head: string[],
  random: Random,
  base: Fate,
  refs: readonly string[],
  faultRef: string | undefined,
): Fate {
  const { cluster } = decision;
  const flagged = (flag: string): string => (base.flags ? `${base.flags},${flag}` : flag);
  if (!cluster) {
    notes.add('client', 'cluster', decision.clusterName, 'the plan has no such cluster: 503', decision.destinationRef);
    return { ...base, status: 503, flags: flagged('NC'), details: 'cluster_not_found', cluster: decision.clusterName };
  }
  noteCluster(notes, cluster);
  notePlan(notes, decision);
  const limit = cluster.pool?.maxRequests ?? 0;
  const subset = cluster.cluster.subset;
  const at = {
    ...base,
    cluster: decision.clusterName,
    subset,
    timeoutMs: decision.timeoutMs,
    retries: decision.retry.attempts,
    perTryTimeoutMs: decision.retry.perTryTimeoutMs,
    retryOn: decision.route.retry?.retryOn ?? [],
    responseOps: decision.responseOps,
  };
  if (limit > 0 && cluster.state.requests >= limit)
    return { ...at, status: 503, flags: flagged('UO'), details: 'overflow' };
  const hash = cluster.cluster.hash ? affinityHash(cluster, head, client.address) : NO_HASH;
  if (cluster.cluster.hash) {
    const because = hash === NO_HASH ? 'the request lacks its key: the endpoint is drawn' : `the key's hash is ${hash}`;
    notes.add('client', 'cluster', 'consistent hash', because, cluster.cluster.lbRef);
  }
  const { session } = decision;
  if (session) {
    const { name, header, ref } = session.rule;
    notes.touch(ref);
    const what = `${header ? 'header' : 'cookie'} ${name}`;
    const because = session.endpoint ? `the ${what} names it` : `the request has no ${what} that is still good`;
    const who = session.endpoint ? `the session's endpoint, ${endpointName(session.endpoint)}` : 'a new session';
    notes.add('client', 'endpoint', who, because, ref);
  }
  if (decision.rewrite?.path !== undefined) setPseudo(head, ':path', decision.rewrite.path);
  if (decision.rewrite?.authority !== undefined) setPseudo(head, ':authority', decision.rewrite.authority);
  applyHeaderOps(head, decision.requestOps);
  // Copies are balanced before the request itself. Which of several endpoints gets one is of no interest.
  const mirrors = decision.mirrors.map((m) => {
    notes.touch(m.cluster?.cluster.ref);
    if (m.cluster?.candidates.length === 1) pickEndpoint(client.snapshot, m.cluster, random, 0);
    return m.clusterName;
  });
  const grpc = isGrpcContentType(headValue(head, 'content-type') ?? '');
  // How long a try waits changes nothing here, but it is a draw.
  const wait: Random = {
    next: () => {
      random.choose?.([1]);
      return 0.5;
    },
  };
  const tried: EndpointView[] = [];
  let { delayMs } = base;
  for (let attempt = 1; ; attempt++) {
    const fault = decision.tryFault && drawFault(decision.tryFault, random);
    delayMs += fault?.delayMs ?? 0;
    const before: Fate = {
      ...at,
      sent: head,
      mirrors,
      delayMs,
      bytesPerSecond: decision.tryFault ? (fault?.bytesPerSecond ?? 0) : base.bytesPerSecond,
      flags: delayMs > 0 && base.flags === '' ? 'DI' : base.flags,
    };
    const aborts = fault !== undefined && (fault.abortStatus > 0 || fault.abortGrpc >= 0);
    const fate = aborts
      ? abortedTry(notes, before, refs, fault)
      : oneTry(mesh, notes, client, cluster, head, random, before, refs, faultRef, hash, {
          tried,
          avoid: decision.retry.ignorePreviousHosts,
          elsewhere: decision.retry.remoteLocalities,
          kept: attempt === 1 ? decision.session?.endpoint : undefined,
        });
    // Nothing was asked, or nothing answered: what then happens is not known before.
    const impossible = fate.details === WITHHELD.details;
    if (typeof fate.status !== 'number' || fate.flags.includes('UH')) return fate;
    if (fate.flags.includes('UF') && !impossible) return fate;
    const grpcStatus = grpc && aborts && fault.abortGrpc >= 0 ? fault.abortGrpc : undefined;
    const outcome: AttemptOutcome = impossible
      ? { kind: 'reset', phase: 'connect', refused: false }
      : { kind: 'status', status: fate.status, grpcStatus };
    const { retry, reason } = retryDecision(decision.retry, outcome, attempt, wait);
    if (!retry) return reason === 'exhausted' ? { ...fate, flags: fate.flags ? `${fate.flags},URX` : 'URX' } : fate;
    const why = `its conditions cover ${fate.status}`;
    notes.add('client', 'retry', `try ${attempt + 1} after ${fate.status}`, why, decision.retry.ref);
  }
}

function abortedTry(notes: Notes, before: Fate, refs: readonly string[], fault: FaultDecision): Fate {
  const isGrpc = fault.abortGrpc >= 0;
  return {
    ...before,
    end: 'fault',
    grpcStatus: fault.abortGrpc,
    status: isGrpc ? 200 : fault.abortStatus,
    flags: before.flags ? `${before.flags},FI` : 'FI',
    details: isGrpc ? `fault_filter_abort (grpc-status ${fault.abortGrpc})` : 'fault_filter_abort',
    from: notes.references(...refs, fault.ref),
  };
}

/** One try at an endpoint. `others` are the endpoints of earlier tries, to which this one is added. */
function oneTry(
  mesh: LabMesh,
  notes: Notes,
  client: Side,
  cluster: ClusterView,
  head: readonly string[],
  random: Random,
  at: Fate,
  refs: readonly string[],
  faultRef: string | undefined,
  hash: number,
  others: {
    readonly tried: EndpointView[];
    readonly avoid: boolean;
    readonly elsewhere: boolean;
    readonly kept: EndpointView | undefined;
  },
): Fate {
  const flagged = (flag: string): string => (at.flags ? `${at.flags},${flag}` : flag);
  const exclude = others.avoid && others.tried.length > 0 ? others.tried : undefined;
  const picked =
    others.kept ??
    pickEndpoint(client.snapshot, cluster, random, 0, exclude, hash, others.elsewhere ? others.tried : undefined);
  if (picked === 'none') {
    notes.add(
      'client',
      'endpoint',
      'answered with 503: no healthy upstream',
      'each endpoint is out',
      cluster.cluster.ref,
    );
    return { ...at, status: 503, flags: flagged('UH'), details: 'no_healthy_upstream' };
  }
  others.tried.push(picked);
  const mtls = noteTransport(notes, cluster, picked);
  const none = withheld(cluster, picked);
  const hop = none ? undefined : throughGateway(mesh, notes, client, picked.endpoint, mtls, head, undefined, random);
  if (hop) {
    const from = notes.references(...refs, ...(faultRef ? [faultRef] : []));
    return afterHop(at, endpointName(picked), picked.endpoint.instance, from, hop);
  }
  const verdict = none ? WITHHELD : judge(mesh, notes, client, picked.endpoint, mtls, head, undefined);
  return {
    ...at,
    mtls,
    status: verdict.status,
    end: verdict.end,
    flags: verdict.flags ? flagged(verdict.flags) : at.flags,
    details: verdict.details,
    endpoint: endpointName(picked),
    instance: picked.endpoint.instance,
    from: notes.references(...refs, ...(faultRef ? [faultRef] : []), verdict.ref),
  };
}

/** Every rule tried, in order, up to the one that matched. */
function noteRules(
  notes: Notes,
  view: RouteView,
  head: readonly string[],
  claims: Readonly<Record<string, unknown>> | undefined,
): void {
  const parts = requestParts(head, claims);
  for (const route of view.http) {
    const name = route.route.name ? ` "${route.route.name}"` : '';
    if (route.match.length === 0) {
      notes.add('client', 'rule', `route${name} matches`, 'it has no match, so it matches all', route.ref);
      noteMatched(notes, route);
      return;
    }
    for (const [i, match] of route.match.entries()) {
      const why = whyNot(match, route.route.match[i], parts);
      if (why !== '') {
        notes.add('client', 'rule', `route${name} does not match`, why, match.ref);
        continue;
      }
      notes.add('client', 'rule', `route${name} matches`, matchText(route.route.match[i]), match.ref);
      notes.touch(match.ref);
      noteMatched(notes, route);
      return;
    }
  }
}

function noteMatched(notes: Notes, { split, fault, mirrors, cors, ref }: CompiledHttpRoute): void {
  notes.touch(ref, fault?.ref, cors?.ref, ...mirrors.map((m) => m.ref));
  const behind = fault?.behindRetry ? ', for each try, behind the retries' : '';
  if (fault?.delayPercent) {
    const what = `delay of ${fault.delayMs} ms in ${fault.delayPercent} %`;
    notes.add('client', 'fault', what, `drawn first${behind}`, fault.ref);
  }
  if (fault?.bandwidthPercent) {
    const what = `the response's body at ${fault.bytesPerSecond} bytes a second in ${fault.bandwidthPercent} %`;
    notes.add('client', 'fault', what, `drawn independently${behind}`, fault.ref);
  }
  if (fault?.abortPercent) {
    const what = fault.abortGrpc >= 0 ? `gRPC status ${fault.abortGrpc}` : `status ${fault.abortStatus}`;
    notes.add(
      'client',
      'fault',
      `abort with ${what} in ${fault.abortPercent} %`,
      `drawn independently${behind}`,
      fault.ref,
    );
  }
  noteSplit(notes, split);
  for (const m of mirrors) notes.add('client', 'mirror', `${m.percent} % copied to ${m.cluster}`, '', m.ref || ref);
}

/** Weight arithmetic. */
export function noteSplit(notes: Notes, { destinations, cumulative, total }: CompiledHttpRoute['split']): void {
  if (destinations.length < 2) return;
  for (const [i, d] of destinations.entries()) {
    const weight = cumulative[i] - (cumulative[i - 1] ?? 0);
    const share = `${weight} of ${total} = ${percent(weight / total)}`;
    notes.add('client', 'weights', d.clusterName, share, d.ref);
  }
}

export function percent(share: number): string {
  return `${Number((share * 100).toFixed(2))} %`;
}

function notePlan(notes: Notes, d: ForwardDecision): void {
  if (d.rewrite) {
    const to = [d.rewrite.authority && `authority ${d.rewrite.authority}`, d.rewrite.path && `path ${d.rewrite.path}`];
    notes.add('client', 'change', `rewritten: ${to.filter(Boolean).join(', ')}`, 'the route rewrites', d.ref);
  }
  for (const ops of d.requestOps)
    notes.add('client', 'change', `request headers: ${opsText(ops)}`, 'the route says so', d.ref);
  for (const ops of d.responseOps)
    notes.add('client', 'change', `response headers: ${opsText(ops)}`, 'the route says so', d.ref);
  const timeout = d.timeoutMs > 0 ? `${d.timeoutMs} ms over all attempts` : 'none';
  notes.touch(d.timeoutRef, d.retry.ref);
  notes.add('client', 'timeout', timeout, d.timeoutRef ? 'asked for' : 'the default', d.timeoutRef);
  const { maxStreamDurationMs = 0, failFastMs = 0 } = d.cluster?.pool ?? {};
  const ref = d.cluster?.cluster.ref;
  if (maxStreamDurationMs > 0) {
    const what = `each try with its response at most ${maxStreamDurationMs} ms`;
    notes.add('client', 'timeout', what, 'the DestinationRule says so (UMSDR)', ref);
  }
  if (failFastMs > 0) {
    const what = `waits ${failFastMs} ms for a connection, then refuses others at once`;
    notes.add('client', 'limit', what, 'the service says so (fail-fast)', ref);
  }
  const { retry } = d;
  const on = d.route.retry?.retryOn.join(',') ?? '';
  const perTry = retry.perTryTimeoutMs > 0 ? `, each try ${retry.perTryTimeoutMs} ms` : '';
  const where = retry.remoteLocalities ? ', in other localities while one is well there' : '';
  const wait = `, waits from ${retry.backoffBaseMs} ms to ${retry.backoffMaxMs} ms${where}`;
  if (retry.attempts === 0) notes.add('client', 'retry', 'none', retry.ref ? 'asked for' : 'the default', retry.ref);
  else
    notes.add('client', 'retry', `at most ${retry.attempts}${perTry}${wait}`, `on ${on || 'the defaults'}`, retry.ref);
}

function opsText({ remove, set, add }: HeaderOps): string {
  const pairs = (list: readonly string[], sign: string): string[] =>
    list.flatMap((name, i) => (i % 2 === 0 ? [`${sign}${name}: ${list[i + 1]}`] : []));
  return [...remove.map((n) => `-${n}`), ...pairs(set, '='), ...pairs(add, '+')].join('; ');
}

export function setPseudo(head: string[], name: string, value: string): void {
  for (let i = 0; i < head.length; i += 2) if (head[i] === name) head[i + 1] = value;
}
