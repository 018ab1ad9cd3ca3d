/** The proxy's process: bootstrap → certificate → plan → listeners → ready; SIGTERM drains and exits 0. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Client, createClient } from '@connectrpc/connect';
import type { Logger } from '@weft/base';
import { WeftError } from '@weft/base';
import { dialMarked, loadSystemCalls, originalDestination, PROXY_MARK } from '@weft/capture';
import { applyRateShares, type RateSharesOf, resolveName, takeRateDemands } from '@weft/engine';
import { controlTlsOptions, IdentityClient, isUnder } from '@weft/identity';
import { CertificateService, ENDPOINTS_TYPE } from '@weft/plan';
import { EdgeAggregator, Registry } from '@weft/telemetry';
import { encodeResponse, parseQuery } from '@weft/wire';
import { AdsClient, type Channel, createChannel, type ServerAddress } from '@weft/xds';
import { startAdmin } from './admin/server.ts';
import { endpointStatusOf } from './admin/state.ts';
import { type Bootstrap, readBootstrap } from './bootstrap.ts';
import { DataPlane } from './data-plane.ts';
import { startDnsServer } from './dns/server.ts';
import { entranceMain } from './entrance/main.ts';
import type { ProxyMode } from './limits.ts';
import { type Connector, dualStackConnector } from './net/dial.ts';
import { LineWriter } from './observe/line-writer.ts';
import { MeshObserver } from './observe/observer.ts';
import { RateShareGauges } from './observe/rate-shares.ts';
import { ReferenceIndex } from './observe/references.ts';
import { releaseMemory } from './overload/release.ts';
import { plainMain } from './plain/main.ts';
import { PLAN_TYPES, PlanStore } from './plan-store.ts';
import { settle, stopper } from './process.ts';
import { TelemetryPush } from './report.ts';
import { readTrust } from './trust.ts';
import { ApplicationIdentity } from './workload-api/application.ts';
import { askWorkloadApi } from './workload-api/client.ts';
import { startWorkloadApi } from './workload-api/server.ts';
import { workloadRoutes } from './workload-api/service.ts';

const DEFAULT_DRAIN_MS = 5000;

/** Runs until SIGTERM. Throws WeftError where it cannot start; afterwards errors are logged, never fatal. */
export async function main(mode: ProxyMode | 'plain' | 'entrance' = 'sidecar'): Promise<void> {
  const path = process.env.WEFT_BOOTSTRAP;
  if (!path)
    throw new WeftError(
      'bootstrap',
      'WEFT_BOOTSTRAP is not set: it names the JSON file that tells the proxy who it is',
    );
  if (mode === 'plain') return plainMain(path);
  if (mode === 'entrance') return entranceMain(path);
  const b = readBootstrap(path, mode);
  if (b.capture === 'transparent') loadSystemCalls();
  await run(b, mode, settle(b, [b.identityDir, b.snapshotDir, applicationDir(b)]));
}

async function run(b: Bootstrap, mode: ProxyMode, logger: Logger): Promise<void> {
  const registry = new Registry();
  const count = (name: string): void => registry.count(name);
  const refreshes = registry.addSeries(
    registry.family('identity_cert_refresh_count', 'counter', 'Certificates that this process took into use.'),
    '',
  );
  const edges = new EdgeAggregator({ count });
  const references = new ReferenceIndex();
  const lines = new LineWriter({ fd: 1, count });
  const observer = new MeshObserver({
    registry,
    edges,
    log: b.accessLog === false ? undefined : (line) => lines.line(line),
    references,
  });
  let ads: AdsClient | undefined;
  const plane = new DataPlane({
    address: b.address,
    address6: b.address6,
    capture: b.capture,
    bind: b.bind,
    // In a namespace of its own all addresses are the gateway's.
    gateway:
      mode === 'gateway'
        ? { host: b.capture !== 'transparent' ? b.address : b.address6 ? '::' : '0.0.0.0' }
        : undefined,
    proxySecret: b.proxySecret,
    limits: b.limits,
    connector: connectorOf(b),
    entrance: b.entrance,
    observer,
    references,
    logger,
    originalDestination: b.capture === 'transparent' ? originalDestination : undefined,
    onServicesInUse: (names) => ads?.name(ENDPOINTS_TYPE, names),
  });
  const inUse = 'Services in use, whose endpoints this proxy asks for by name.';
  registry.gauge('weft_named_services', inUse, () => plane.servicesInUse.names.length);
  let firstPlan: () => void = () => {};
  const planned = new Promise<void>((resolve) => {
    firstPlan = resolve;
  });
  let loading = false;
  const store = new PlanStore({
    dir: b.snapshotDir,
    logger,
    onApplied: (snapshot, epoch) => {
      plane.apply(snapshot, epoch);
      if (store.complete) firstPlan();
    },
    onReferences: (r) => references.update(r),
    onTrust: (part) => {
      const trust = readTrust(part, b.trustDomain);
      // What an earlier process left may be older than the own certificate; the control plane will say it anew.
      const own = identity.current();
      if (loading && own && !isUnder(own, trust.rootPem)) return;
      identity.setTrust(trust);
      application.setTrust(trust);
    },
  });

  const { host, port } = splitAddress(b.controlAddress);
  let token = b.token;
  let tokenShown = false;
  let push: TelemetryPush | undefined;
  const identity = new IdentityClient({
    dir: b.identityDir,
    spiffeId: b.spiffeId,
    // A token comes from who knows the roots of now. Without one they may be older than what is stored.
    rootPem: b.token ? b.rootPem : undefined,
    logger,
    signCsr: async (csrPem) => {
      const channel = openChannel(b, host, port, identity);
      try {
        const answer = await createClient(CertificateService, channel.transport).sign(
          { csrPem, token: identity.valid ? '' : (token ?? newToken(b)) },
          { timeoutMs: 10_000 },
        );
        if (!identity.valid) tokenShown = true;
        return { chainPem: answer.chainPem, rootPem: answer.rootPem };
      } finally {
        channel.close();
      }
    },
    askWorkloadApi,
    onRotate: (next, previous) => {
      plane.setIdentity(next);
      if (tokenShown) token = undefined; // Now that what it gave is kept.
      if (previous?.serial !== next.serial) registry.add(refreshes, 1);
      // A new certificate; whom to believe is nothing to connect anew for. By this connection the control plane knows that
      // the workload lives by the key that signs now: its application must do so too.
      if (previous && previous.serial !== next.serial)
        application.whenReissued(() => {
          ads?.reconnect();
          push?.reconnect();
        });
    },
  });
  /** One call of the CA with the own certificate. */
  const asMyself = async <T>(call: (ca: Client<typeof CertificateService>) => Promise<T>): Promise<T> => {
    if (!identity.valid) throw new WeftError('identity/none', 'the proxy has no valid certificate');
    const channel = openChannel(b, host, port, identity);
    try {
      return await call(createClient(CertificateService, channel.transport));
    } finally {
      channel.close();
    }
  };
  const application = new ApplicationIdentity({
    dir: applicationDir(b),
    spiffeId: () => identity.current()?.spiffeId,
    signCsr: (csrPem) => asMyself((ca) => ca.sign({ csrPem }, { timeoutMs: 10_000 })),
    logger,
  });
  // By the names that the alerts of Istio's and Linkerd's users ask for.
  const endMs = (): number => identity.current()?.notAfterMs ?? Number.NaN;
  const left = 'Seconds until the own certificate ends.';
  registry.gauge('cert_expiry_seconds', left, () => (endMs() - Date.now()) / 1000);
  const at = 'When the own certificate ends, in seconds since 1970.';
  registry.gauge('identity_cert_expiration_timestamp_seconds', at, () => endMs() / 1000);
  const linked = '1 while the control plane answers, by the name of Envoy.';
  registry.gauge('control_plane_connected_state', linked, () => (ads?.state === 'connected' ? 1 : 0));
  let ready = false;
  const admin = await startAdmin({
    bind: b.bind,
    metrics: registry,
    logger,
    state: {
      bootstrap: b,
      get ready() {
        return ready;
      },
      get draining() {
        return plane.core.draining;
      },
      get epoch() {
        return store.epoch;
      },
      get parts() {
        return store.parts;
      },
      get endpoints() {
        return store.endpoints;
      },
      get references() {
        return store.references;
      },
      get certificate() {
        const i = identity.current();
        if (!i) return undefined;
        const { spiffeId, serial, notBeforeMs, notAfterMs, chainPem, bundle } = i;
        return { spiffeId, serial, notBeforeMs, notAfterMs, chainPem, bundle };
      },
      wallMs: () => plane.core.wallMs(),
      plaintext: () => observer.plaintextCallers.list(),
      probe: (host, port) => plane.probe(host, port),
      counts: () => plane.counts(),
      detected: () => plane.core.outcomes.list(),
      overload: () => plane.core.overload,
      endpointStatus: () => endpointStatusOf(store.snapshot),
    },
  });
  const stop = stopper(async () => {
    ready = false;
    logger.info({}, 'draining');
    await plane.drain(store.snapshot?.self?.drainMs || DEFAULT_DRAIN_MS);
    store.save();
    await Promise.race([push?.stop(), new Promise((resolve) => setTimeout(resolve, 1000))]);
    ads?.stop();
    identity.stop();
    application.stop();
    await Promise.race([
      Promise.all([lines.drained(), admin.close(), workloadApi?.close()]),
      new Promise((resolve) => setTimeout(resolve, 1000)),
    ]);
  }, logger);
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);

  await identity.start();
  // Without it the workload still serves: what fails is told of, and who asks for an identity gets none.
  const workloadApi =
    b.workloadApi &&
    (await startWorkloadApi({
      bind: b.workloadApi,
      maxConnections: plane.core.limits.workloadApiConnections,
      count,
      logger,
      routes: workloadRoutes({
        identity: application,
        spiffeId: () => identity.current()?.spiffeId,
        signJwt: async (audience) =>
          (
            await asMyself((ca) => ca.signJwt({ audience: [...audience] }, { timeoutMs: 5000 }))
          ).token,
        count,
      }),
    }).catch((error: unknown) => {
      logger.error({ error: String(error) }, 'there is no Workload API');
      return undefined;
    }));
  loading = true;
  const initial = store.load(b.instance);
  loading = false;
  const { limits } = plane.core;
  ads = new AdsClient({
    connect: () => controlPlane(b, host, port, identity),
    node: { id: b.instance, cluster: b.mesh },
    types: PLAN_TYPES,
    initial,
    logger,
    onUpdate: (type, change) => store.update(type, change),
    onState: (state) => {
      if (state === 'disconnected') count('control_plane_lost');
    },
    pings: { everyMs: limits.controlPingEveryMs, timeoutMs: limits.controlPingTimeoutMs },
  });
  ads.start();
  const shares = new RateShareGauges(registry);
  const seen = {
    ...{ edges: observer.edges, calls: observer.calls, plaintextCallers: observer.plaintextCallers },
    takeMissingKeys: () => plane.core.tokens.takeMissing(),
    takeRateDemands: () => (store.snapshot ? takeRateDemands(store.snapshot, plane.core.nowMs()) : []),
    applyRateShares: (answer: readonly RateSharesOf[]) => {
      if (answer.length === 0 || !store.snapshot) return;
      applyRateShares(store.snapshot, answer, plane.core.nowMs());
      shares.note(answer);
    },
  };
  push = new TelemetryPush(b.instance, seen, () => openChannel(b, host, port, identity), logger);
  push.start();
  if (b.bind.dns) {
    await startDnsServer({
      bind: {
        hosts: b.bind.dns.host === '127.0.0.1' ? ['127.0.0.1', '::1'] : [b.bind.dns.host],
        port: b.bind.dns.port,
      },
      codec: { parseQuery, encodeResponse },
      resolve: (name) => (store.snapshot ? resolveName(store.snapshot, name) : undefined),
      upstreams: b.dnsUpstreams ?? [],
      count,
      logger,
    });
  }
  await planned;
  await plane.listen();
  ready = true;
  releaseMemory();
  logger.info({ epoch: String(store.epoch) }, 'ready');
}

/** What the application got by the Workload API; not what the proxy proves itself with. */
function applicationDir(b: Bootstrap): string {
  return join(b.identityDir, 'application');
}

/** What the supervisor has left for a proxy whose certificate ended. */
function newToken(b: Bootstrap): string {
  try {
    return b.tokenFile ? readFileSync(b.tokenFile, 'utf8') : '';
  } catch {
    return ''; // It is not there yet: the CA refuses, and is asked again.
  }
}

/** Capture leaves out the proxy's own user; a proxy that runs as another one has to mark its connections instead. */
function connectorOf(b: Bootstrap): Connector | undefined {
  if (b.capture !== 'transparent') return undefined;
  if (b.uid) return b.address6 ? dualStackConnector(b.address, b.address6) : undefined;
  return (host, port) => dialMarked(host, port, { mark: PROXY_MARK });
}

/** Where the control plane is, which must prove its own id; with the own certificate where there is one. */
function controlPlane(b: Bootstrap, host: string, port: number, client: IdentityClient): ServerAddress {
  const { trustDomain } = b;
  // The roots of now, where there are any: those of the start may have been replaced.
  const rootPem = client.current()?.rootPem ?? b.rootPem;
  const identity = client.valid ? client.current() : undefined;
  return { host, port, tls: controlTlsOptions({ rootPem, trustDomain, identity }) };
}

function openChannel(b: Bootstrap, host: string, port: number, client: IdentityClient): Channel {
  return createChannel(controlPlane(b, host, port, client));
}

function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  const port = Number(address.slice(colon + 1));
  if (colon < 1 || !Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new WeftError('bootstrap.invalid', `controlAddress ${JSON.stringify(address)} must be host:port`);
  }
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port };
}
