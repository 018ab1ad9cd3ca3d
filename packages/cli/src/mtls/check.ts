/** Why two workloads cannot speak mTLS with each other: facts from both of their proxies, and one finding for each cause. */
import { judgeChain, type PeerResult, Revocations, TrustBundle } from '@weft/identity';
import type { Handshake, ProbedEndpoint, ProbedService } from '@weft/proxy';

/** What a proxy's `/certs` says. */
export interface ProxyCertificates {
  readonly certificates: readonly {
    readonly resource: string;
    readonly state: 'ACTIVE' | 'WARMING';
    readonly spiffeId?: string;
    readonly serial?: string;
    readonly chainPem?: string;
  }[];
  readonly trustBundle: readonly { readonly trustDomain: string; readonly pem: string }[];
  readonly revoked: {
    readonly certificates: readonly { readonly issuer: string; readonly serial: string }[];
    readonly ids: readonly string[];
  };
  readonly nowMs: number;
}

/** What a proxy's `/listeners` says, as far as it is needed. */
export interface ProxyListeners {
  readonly inbound: readonly { readonly port?: number; readonly mtls?: string; readonly mtlsRef?: string }[];
}

export interface CheckedSide {
  /** The instance. */
  readonly name: string;
  readonly injected: boolean;
  /** Why it has no proxy. */
  readonly reason: string;
}

export interface CheckOptions {
  readonly from: CheckedSide;
  readonly to: readonly CheckedSide[];
  /** The service by which it is called. */
  readonly service: { readonly host: string; readonly port: number };
  /** The mode of the called workload's port, where it has no proxy to say it. */
  readonly mode: 'DISABLE' | 'PERMISSIVE' | 'STRICT';
  /** Asks the admin port of an instance's proxy. */
  ask(instance: string, path: string): Promise<unknown>;
  /** Wall time of who asks. */
  nowMs(): number;
}

export type FindingCode =
  | 'source-no-proxy'
  | 'destination-no-proxy'
  | 'proxy-silent'
  | 'no-endpoint'
  | 'client-tls-rule'
  | 'peer-authentication'
  | 'clock'
  | 'source-certificate'
  | 'destination-certificate'
  | 'source-root'
  | 'destination-root'
  | 'revoked'
  | 'identity'
  | 'mesh-port'
  | 'workload-port'
  | 'handshake';

export interface CheckFinding {
  readonly code: FindingCode;
  /** The instance whose side is to be mended. */
  readonly at: string;
  readonly message: string;
  /** The rule that says so; empty: none does. */
  readonly ref: string;
}

export interface CheckResult {
  readonly from: string;
  readonly service: string;
  readonly rule: string;
  readonly endpoints: readonly { readonly instance: string; readonly identity: string; readonly mtls: boolean }[];
  readonly findings: readonly CheckFinding[];
}

/** Certificates are backdated by two minutes: with half of that both sides still agree on every certificate. */
const CLOCK_TOLERANCE_MS = 60_000;

interface Side {
  name: string;
  certs: ProxyCertificates;
  bundle: TrustBundle;
  chainPem: string;
  spiffeId: string;
  /** Its clock against that of who asks; positive: ahead. */
  skewMs: number;
}

/** Asks both sides, and has the caller's proxy do the handshakes. */
export async function check(o: CheckOptions): Promise<CheckResult> {
  const service = `${o.service.host}:${o.service.port}`;
  const stop = (...findings: CheckFinding[]): CheckResult => ({
    ...{ from: o.from.name, service, rule: '', endpoints: [], findings },
  });
  if (!o.from.injected) {
    const then = o.mode === 'STRICT' ? 'STRICT refuses it' : 'it is plaintext';
    const message = `${o.from.name} has no proxy (${o.from.reason}): what it sends shows no certificate, and ${then}`;
    return stop({ code: 'source-no-proxy', at: o.from.name, message, ref: '' });
  }
  const without = o.to.filter((t) => !t.injected);
  if (without.length === o.to.length && without[0]) {
    const { name, reason } = without[0];
    const message = `${name} has no proxy (${reason}): it has no certificate, and takes plaintext alone`;
    return stop({ code: 'destination-no-proxy', at: name, message, ref: '' });
  }
  const silent = (name: string, error: unknown): CheckFinding => {
    const why = error instanceof Error ? error.message : String(error);
    return { code: 'proxy-silent', at: name, message: `the proxy of ${name} does not answer: ${why}`, ref: '' };
  };
  let from: Side;
  let probed: ProbedService;
  try {
    from = await side(o, o.from.name);
    probed = (await o.ask(o.from.name, `/mtls?service=${encodeURIComponent(service)}`)) as ProbedService;
  } catch (error) {
    return stop(silent(o.from.name, error));
  }
  const findings: CheckFinding[] = [];
  const endpoints: { instance: string; identity: string; mtls: boolean }[] = [];
  const meant = probed.endpoints.filter((e) => o.to.some((t) => t.name === e.instance));
  if (meant.length === 0) {
    const message = `${o.from.name} knows no endpoint of ${service} that is of the workload: it is not ready, or no service selects it`;
    findings.push({ code: 'no-endpoint', at: o.to[0]?.name ?? '', message, ref: '' });
  }
  for (const e of meant) {
    const found = await judgeEndpoint(o, from, probed, e, silent);
    endpoints.push({ instance: e.instance, identity: e.identity, mtls: found.length === 0 });
    for (const f of found)
      if (!findings.some((g) => g.code === f.code && (g.at === f.at || (f.ref !== '' && g.ref === f.ref))))
        findings.push(f);
  }
  return { from: o.from.name, service, rule: probed.tls, endpoints, findings };
}

async function side(o: CheckOptions, name: string): Promise<Side> {
  const before = o.nowMs();
  const certs = (await o.ask(name, '/certs')) as ProxyCertificates;
  const skewMs = certs.nowMs - (before + o.nowMs()) / 2;
  const roots = new Map<string, string>();
  for (const { trustDomain, pem } of certs.trustBundle)
    roots.set(trustDomain, `${roots.get(trustDomain) ?? ''}${pem}\n`);
  const bundle = new TrustBundle(roots, new Revocations(certs.revoked.certificates, certs.revoked.ids));
  const own = certs.certificates.find((c) => c.resource === 'default');
  return { name, certs, bundle, chainPem: own?.chainPem ?? '', spiffeId: own?.spiffeId ?? '', skewMs };
}

async function judgeEndpoint(
  o: CheckOptions,
  from: Side,
  probed: ProbedService,
  e: ProbedEndpoint,
  silent: (name: string, error: unknown) => CheckFinding,
): Promise<CheckFinding[]> {
  const found: CheckFinding[] = [];
  const find = (code: FindingCode, at: string, message: string, ref = ''): void => {
    found.push({ code, at, message, ref });
  };
  if (e.meshPort === 0) {
    const reason = o.to.find((t) => t.name === e.instance)?.reason ?? '';
    find('destination-no-proxy', e.instance, `${e.instance} has no proxy (${reason}): it takes plaintext alone`);
    return found;
  }
  let to: Side;
  let inbound: ProxyListeners['inbound'][number] | undefined;
  try {
    to = await side(o, e.instance);
    const listeners = (await o.ask(e.instance, '/listeners')) as ProxyListeners;
    inbound = listeners.inbound.find((i) => i.port === e.port);
  } catch (error) {
    return [silent(e.instance, error)];
  }
  const { tls, tlsRef } = probed;
  if (tls === 'DISABLE' || tls === 'SIMPLE' || tls === 'MUTUAL') {
    const sends = tls === 'DISABLE' ? 'plaintext' : "TLS of the application's, not the mesh's";
    find('client-tls-rule', from.name, `the DestinationRule says ${tls}: ${from.name} sends ${sends}`, tlsRef);
  }
  const disabled = inbound?.mtls?.endsWith('DISABLE') ?? e.mtlsDisabled;
  if (disabled) {
    const message = `PeerAuthentication is DISABLE for port ${e.port} of ${e.instance}: it takes plaintext alone`;
    find('peer-authentication', e.instance, message, inbound?.mtlsRef);
  }
  const clock = skewed(from, to);
  if (clock) find('clock', clock.name, clock.message);

  const handshake = e.handshake as Handshake;
  const source = judgeChain(from.chainPem, { bundle: to.bundle });
  // What was shown in the handshake counts; where it did not come so far, what the proxy says that it has.
  const destination = judgeChain(handshake.chainPem || to.chainPem, {
    bundle: from.bundle,
    expected: new Set([e.identity]),
  });
  judged(source, { whose: from, by: to, role: 'source', clock: clock !== undefined }, find);
  judged(destination, { whose: to, by: from, role: 'destination', clock: clock !== undefined }, find);

  const where = `${e.address}:${e.meshPort}`;
  if (handshake.stage === 'connect')
    find('mesh-port', e.instance, `${where}, the mesh port of ${e.instance}, cannot be reached: ${handshake.error}`);
  else if (handshake.status === 403 && handshake.text.includes('not a port'))
    find('workload-port', e.instance, `the proxy of ${e.instance} has no port ${e.port} in its plan`, inbound?.mtlsRef);
  else if (handshake.stage === 'tls' && found.length === 0)
    find('handshake', e.instance, `the handshake with ${where} failed: ${handshake.error || 'it was ended'}`);
  return found;
}

function skewed(from: Side, to: Side): { name: string; message: string } | undefined {
  const apart = from.skewMs - to.skewMs;
  if (Math.abs(apart) <= CLOCK_TOLERANCE_MS) return undefined;
  // Whose clock is further from this one is taken for the wrong one.
  const wrong = Math.abs(from.skewMs) > Math.abs(to.skewMs) ? from : to;
  const seconds = Math.round(Math.abs(wrong.skewMs) / 1000);
  const how = wrong.skewMs > 0 ? 'ahead' : 'behind';
  const message = `the clock of ${wrong.name} is ${seconds} s ${how}: certificates look expired, or not yet valid`;
  return { name: wrong.name, message };
}

function judged(
  result: PeerResult,
  at: { whose: Side; by: Side; role: 'source' | 'destination'; clock: boolean },
  find: (code: FindingCode, at: string, message: string) => void,
): void {
  const { whose, by, role } = at;
  if (whose.chainPem === '') {
    find(`${role}-certificate`, whose.name, `${whose.name} has no certificate yet (WARMING)`);
    return;
  }
  if (!('error' in result)) return;
  switch (result.problem) {
    case 'expired':
    case 'not-yet-valid':
      if (!at.clock) find(`${role}-certificate`, whose.name, result.error);
      break;
    case 'malformed':
      find(`${role}-certificate`, whose.name, result.error);
      break;
    case 'untrusted':
      find(`${role}-root`, by.name, `${by.name} does not believe ${whose.name}: ${result.error}`);
      break;
    case 'revoked':
      find('revoked', whose.name, result.error);
      break;
    case 'unexpected':
      find('identity', whose.name, `${whose.name} proves another identity: ${result.error}`);
  }
}
