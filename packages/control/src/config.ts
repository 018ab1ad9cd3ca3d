/** What the control plane is told at its start. */
import { readFileSync } from 'node:fs';
import { WeftError } from '@weft/base';
import { MAX_CERT_TTL_MS, MIN_CERT_TTL_MS } from '@weft/identity';
import { allowedBlocks } from './keys/fetch.ts';

export interface Listen {
  host: string;
  port: number;
}

/** The JSON file (0600) that `WEFT_CONTROL` names. */
export interface ControlConfig {
  mesh: string;
  /** Folder (0700) of the CA's root, the epoch, the instances and the virtual addresses. */
  stateDir: string;
  /** Files and folders of the mesh; of a folder its `*.yaml` and `*.yml`, without sub-folders. */
  files: string[];
  listen: { xds: Listen; metrics?: Listen; hosts?: Listen };
  /** Where hosts reach the workloads of this machine; with `listen.hosts`, where they reach the control plane. */
  entrance?: Listen;
  /** Instances of a host that was not heard of for so long are taken out, default 20 s. */
  hostLeaseMs?: number;
  /** Of one host, default 100. */
  maxHostInstances?: number;
  /** Unix socket of the local API, made with mode 0600. */
  socket: string;
  capture: 'transparent' | 'explicit';
  trustDomain?: string; // default cluster.local
  /** First two numbers of the virtual addresses; default 240.240, in explicit mode 127.65. */
  vipPrefix?: string;
  certTtlMs?: number; // 10 s to 90 d, default 24 h
  /** Connections to 15012 without a certificate, default 1000. */
  maxAnonymousConnections?: number;
  /** How many proxies in a second hear of endpoints of services that they do not use, default 4000. */
  turnsPerSecond?: number;
  registryOnly?: boolean;
  drainMs?: number;
  /** Blocks of addresses that keys of token issuers may be fetched from though they are not public. */
  jwksAllow?: string[];
  /** Kinds that have no effect yet are warned of, not refused. */
  allowPending?: boolean;
  logLevel?: string;
}

function invalid(path: string, what: string): WeftError {
  return new WeftError('control/bad-config', `${path}: ${what}`);
}

function isListen(value: unknown): value is Listen {
  const v = value as Listen | undefined;
  return typeof v?.host === 'string' && Number.isInteger(v.port) && v.port >= 0 && v.port <= 65_535;
}

/** Reads and checks the file; throws `control/bad-config` naming the field. */
export function readControlConfig(path: string): ControlConfig {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new WeftError('control/bad-config', `${path}: cannot be read as JSON: ${String(cause)}`, { cause });
  }
  if (typeof value !== 'object' || value === null) throw invalid(path, 'must be an object');
  const config = value as ControlConfig;
  for (const name of ['mesh', 'stateDir', 'socket'] as const) {
    if (typeof config[name] !== 'string' || config[name] === '')
      throw invalid(path, `${name} must be a text that is not empty`);
  }
  if (!Array.isArray(config.files) || config.files.some((f) => typeof f !== 'string'))
    throw invalid(path, 'files must be a list of paths');
  if (!isListen(config.listen?.xds)) throw invalid(path, 'listen.xds must have a host and a port');
  if (config.listen.metrics !== undefined && !isListen(config.listen.metrics))
    throw invalid(path, 'listen.metrics must have a host and a port');
  for (const name of ['hosts', 'entrance'] as const) {
    const value = name === 'hosts' ? config.listen.hosts : config.entrance;
    if (value !== undefined && !isListen(value)) throw invalid(path, `${name} must have a host and a port`);
  }
  if ((config.listen.hosts === undefined) !== (config.entrance === undefined))
    throw invalid(path, 'listen.hosts and entrance belong together');
  for (const name of ['hostLeaseMs', 'maxHostInstances'] as const) {
    const { [name]: value = 1 } = config;
    if (!Number.isInteger(value) || value < 1) throw invalid(path, `${name} must be a whole number from 1`);
  }
  if (config.capture !== 'transparent' && config.capture !== 'explicit')
    throw invalid(path, 'capture must be transparent or explicit');
  if (config.vipPrefix !== undefined && !/^\d{1,3}\.\d{1,3}$/.test(config.vipPrefix))
    throw invalid(path, 'vipPrefix must be two numbers, as 240.240');
  if (config.jwksAllow !== undefined) {
    if (!Array.isArray(config.jwksAllow)) throw invalid(path, 'jwksAllow must be a list of address blocks');
    allowedBlocks(config.jwksAllow);
  }
  const { maxAnonymousConnections: anonymous = 1 } = config;
  if (!Number.isInteger(anonymous) || anonymous < 1)
    throw invalid(path, 'maxAnonymousConnections must be a whole number from 1');
  const { turnsPerSecond: turns = 100 } = config;
  if (!Number.isInteger(turns) || turns < 100) throw invalid(path, 'turnsPerSecond must be a whole number from 100');
  const { certTtlMs = MIN_CERT_TTL_MS } = config;
  if (!(certTtlMs >= MIN_CERT_TTL_MS && certTtlMs <= MAX_CERT_TTL_MS))
    throw invalid(path, `certTtlMs must be ${MIN_CERT_TTL_MS} (10 s) to ${MAX_CERT_TTL_MS} (90 days)`);
  return config;
}
