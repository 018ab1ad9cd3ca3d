/** The control plane as a whole: sources → model → plans → proxies, and back certificates and telemetry. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, type Logger, systemClock, type Timer } from '@weft/base';
import { FileCache, loadFiles } from '@weft/config';
import {
  controlPlaneId,
  createAuthority,
  DEFAULT_CERT_TTL_MS,
  IdentityClient,
  JwtKeys,
  judgeKeyPair,
} from '@weft/identity';
import { meshConfigOf } from '@weft/model';
import { createAdsHandler } from '@weft/xds';
import { startApi } from './api/server.ts';
import { ChangeLog } from './audit/changes.ts';
import { JsonLines } from './audit/log.ts';
import { Traffic } from './audit/traffic.ts';
import { openExternal } from './ca/external/issuer.ts';
import { CertificateIssuer } from './ca/service.ts';
import { Tokens } from './ca/tokens.ts';
import { MeshTrust } from './ca/trust.ts';
import { WorkloadApiSource } from './ca/workload-api.ts';
import { RateShares } from './collect/rate-shares.ts';
import { Collector } from './collect/service.ts';
import type { ControlConfig } from './config.ts';
import { hostApi } from './hosts/api.ts';
import { Hosts } from './hosts/registry.ts';
import { type LoadFiles, Mesh } from './mesh.ts';
import { startMetrics } from './metrics.ts';
import type { Peer } from './peer.ts';
import { Pusher } from './push/pusher.ts';
import { TYPES } from './push/render.ts';
import { startRpc } from './rpc.ts';
import { FileSource } from './sources/files.ts';
import { State } from './state.ts';

const RENEW_JWT_KEYS_MS = 600_000;

export interface ControlPlane {
  /** The ports in use, where 0 was asked for. */
  readonly ports: { xds: number; metrics: number | undefined };
  close(): Promise<void>;
}

/**
 * Starts everything and resolves when it listens, also where the files are refused: the epoch before them serves then.
 * `parts.load` and `parts.clock` are for tests.
 */
export async function startControlPlane(
  config: ControlConfig,
  logger: Logger,
  parts: { load?: LoadFiles; clock?: Clock } = {},
): Promise<ControlPlane> {
  const clock = parts.clock ?? systemClock;
  mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
  const state = new State(config.stateDir, logger);
  const cache = new FileCache();
  const mesh = new Mesh({
    config,
    state,
    load:
      parts.load ??
      ((files) => {
        const { trustDomain = 'cluster.local', allowPending } = config;
        return loadFiles(files, { judgeKeyPair, cache, allowPending, trustDomain });
      }),
    logger,
    clock,
  });
  const { trustDomain } = mesh;
  const authority = await createAuthority({ dir: join(config.stateDir, 'ca'), trustDomain, clock, openExternal });
  const ttlMs = config.certTtlMs ?? DEFAULT_CERT_TTL_MS;
  const ownId = controlPlaneId(trustDomain);
  const identity = new IdentityClient({
    signCsr: (csrPem) => authority.sign(csrPem, { spiffeId: ownId, ttlMs }),
    spiffeId: ownId,
    // Kept where another service signs, so that a restart need not wait for it.
    dir: authority.external ? join(config.stateDir, 'identity') : undefined,
    clock,
    logger,
  });
  const closers: (() => void | Promise<void>)[] = [() => identity.stop(), () => mesh.stop()];
  const close = async () => {
    for (const c of closers.splice(0).reverse()) await c();
  };
  try {
    await identity.start();
    const jwtKeys = await JwtKeys.open(join(config.stateDir, 'ca'), clock);
    await jwtKeys.follow(authority.phase);
    const keysFailed = (error: unknown) => logger.error({ error: String(error) }, 'keys of tokens were not renewed');
    authority.onChange(() => void jwtKeys.follow(authority.phase).catch(keysFailed));
    const renewal = every(clock, RENEW_JWT_KEYS_MS, () => void jwtKeys.renew().catch(keysFailed));
    closers.push(() => renewal.cancel());
    const trust = new MeshTrust(authority, jwtKeys, state, clock);
    const aliases = () => trust.setAliases((mesh.model && meshConfigOf(mesh.model)?.trustDomainAliases) ?? []);
    aliases();
    mesh.onChange((change) => change.kind === 'epoch' && aliases());
    const workloadApi = new WorkloadApiSource({ trust, trustDomain, clock, logger });
    closers.push(() => workloadApi.stop());
    identity.setTrust(trust.current);
    trust.onChange(() => identity.setTrust(trust.current));
    const auditDir = join(config.stateDir, 'audit');
    const lines = new JsonLines(join(auditDir, 'changes.jsonl'), logger);
    const changes = new ChangeLog(lines, clock, state.files);
    mesh.onChange((change) => {
      if (change.kind === 'epoch') changes.epoch(mesh.epoch, state.files);
    });
    mesh.onRefused((refused, problems) => changes.refused(mesh.epoch, refused, problems));
    const files = new FileSource({ paths: config.files, onChange: (result) => mesh.applyFiles(result), logger, clock });
    files.start();
    closers.push(() => files.stop());
    const tokens = new Tokens(state, clock);
    const pusher = new Pusher(mesh, trust, logger, clock, config.turnsPerSecond);
    const traffic = new Traffic(auditDir, clock, logger);
    closers.push(() => traffic.stop());
    const rates = new RateShares(mesh, clock);
    const collector = new Collector(mesh, clock, traffic, rates);
    const hosts = new Hosts({
      ...{ mesh, state, trust, clock, logger, capture: config.capture, entrance: config.entrance },
      ...{ leaseMs: config.hostLeaseMs, maxInstances: config.maxHostInstances },
    });
    closers.push(() => hosts.stop());
    const issuer = new CertificateIssuer({ authority, jwtKeys, tokens, mesh, hosts, trust, ttlMs, logger });
    const ads = createAdsHandler<Peer>({
      types: TYPES,
      accept: (stream, node, peer) => pusher.accept(stream, node, peer),
      logger,
    });
    const rpc = await startRpc({
      listen: [config.listen.xds, ...(config.listen.hosts ? [config.listen.hosts] : [])],
      hosts: hostApi({ hosts, mesh, pusher, tokens, trust, logger }),
      maxAnonymous: config.maxAnonymousConnections,
      identity,
      logger,
      clock,
      ads,
      routes(router) {
        issuer.routes(router);
        collector.routes(router);
      },
    });
    closers.push(
      () => rpc.close(),
      () => pusher.stop(),
    );
    const metrics =
      config.listen.metrics &&
      (await startMetrics(config.listen.metrics, { mesh, pusher, issuer, authority, trust, rpc, rates, hosts }));
    if (metrics) closers.push(() => metrics.close());
    const api = await startApi({
      socket: config.socket,
      mesh,
      pusher,
      tokens,
      hosts,
      collector,
      rates,
      traffic,
      changes,
      clock,
      authority,
      trust,
      workloadApi,
      logger,
    });
    closers.push(() => api.close());
    logger.info({ epoch: mesh.epoch, port: rpc.port }, 'control plane ready');
    return { ports: { xds: rpc.port, metrics: metrics?.port }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Until it is cancelled. */
function every(clock: Clock, periodMs: number, fn: () => void): { cancel(): void } {
  let timer: Timer;
  const next = () => {
    timer = clock.after(periodMs, () => {
      fn();
      next();
    });
  };
  next();
  return { cancel: () => timer.cancel() };
}
