/**
 * The plan as parts, as it came from the control plane, compiled on each change and kept on disk, so that a restarted
 * proxy serves while the control plane is away. A change that cannot be compiled changes nothing (NACK).
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { type Logger, WeftError } from '@weft/base';
import { buildSnapshot, type Snapshot } from '@weft/engine';
import {
  ENDPOINTS_TYPE,
  type Endpoints,
  EndpointsSchema,
  PART_TYPE,
  type Part,
  PartSchema,
  REFERENCES_TYPE,
  type References,
  ReferencesSchema,
  type Trust,
  unknownIn,
} from '@weft/plan';
import type { Change } from '@weft/xds';
import { missingCurve } from './net/tls-choice.ts';

export const PLAN_TYPES = [REFERENCES_TYPE, PART_TYPE, ENDPOINTS_TYPE] as const;
const SAVE_DELAY_MS = 200;
const FILE = 'plan.json';

export interface PlanStoreOptions {
  /** Undefined: memory only. */
  dir: string | undefined;
  logger: Logger;
  onApplied(snapshot: Snapshot, epoch: bigint): void;
  onReferences?(references: ReadonlyMap<string, References>): void;
  /** Throws where it cannot be used. */
  onTrust?(trust: Trust): void;
}

interface Stored {
  epoch: string;
  resources: { type: string; name: string; version: string; bytes: string }[];
}

/**
 * Throws WeftError `plan.newer` of what says, or may say, something of who may call that this proxy cannot read, and
 * `plan.curve` of a curve that it cannot use.
 */
function readPart(name: string, bytes: Uint8Array): Part {
  const part = fromBinary(PartSchema, bytes);
  const unknown = unknownIn(part);
  if (unknown === undefined) {
    const curve = missingCurve(part);
    if (curve === undefined) return part;
    const message = `part "${name.slice(0, 200)}": this proxy's OpenSSL (${process.versions.openssl}) has no curve ${curve.slice(0, 100)}: choose others in ecdhCurves`;
    throw new WeftError('plan.curve', message);
  }
  const what = `part "${name.slice(0, 200)}": ${unknown}`;
  const message = `the plan is for a newer proxy (${what}): start this one again with the control plane's version`;
  throw new WeftError('plan.newer', message);
}

export class PlanStore {
  parts: Map<string, Part> = new Map();
  endpoints: Map<string, Endpoints> = new Map();
  /** By resource name. */
  references: ReadonlyMap<string, References> = new Map();
  snapshot: Snapshot | undefined;
  epoch = 0n;
  #options: PlanStoreOptions;
  /** type → name → version and bytes, for the disk. */
  #held = new Map<string, Map<string, { version: string; bytes: Uint8Array }>>();
  #timer: NodeJS.Timeout | undefined;
  #endpointsSeen = false;

  constructor(options: PlanStoreOptions) {
    this.#options = options;
    for (const type of PLAN_TYPES) this.#held.set(type, new Map());
  }

  /** Applies a change whole, or throws and keeps all as it was. */
  update(type: string, change: Change): void {
    if (type === PART_TYPE) {
      const parts = new Map(this.parts);
      for (const { name, bytes } of change.updated) parts.set(name, readPart(name, bytes));
      for (const name of change.removed) parts.delete(name);
      const snapshot = buildSnapshot(parts.values(), this.endpoints.values(), this.snapshot);
      const trust = change.updated.some((u) => u.name === 'trust') ? parts.get('trust')?.kind : undefined;
      if (trust?.case === 'trust') this.#options.onTrust?.(trust.value);
      this.parts = parts;
      this.snapshot = snapshot;
      if (/^[0-9]{1,18}$/.test(change.label)) this.epoch = BigInt(change.label);
      this.#applied();
    } else if (type === ENDPOINTS_TYPE) {
      // An answer to names that it holds already.
      if (this.#endpointsSeen && change.updated.length + change.removed.length === 0) return;
      const endpoints = new Map(this.endpoints);
      for (const { name, bytes } of change.updated) endpoints.set(name, fromBinary(EndpointsSchema, bytes));
      for (const name of change.removed) endpoints.delete(name);
      const snapshot = buildSnapshot(this.parts.values(), endpoints.values(), this.snapshot);
      this.endpoints = endpoints;
      this.#endpointsSeen = true;
      this.snapshot = snapshot;
      this.#applied();
    } else if (type === REFERENCES_TYPE) {
      const references = new Map(this.references);
      for (const { name, bytes } of change.updated) references.set(name, fromBinary(ReferencesSchema, bytes));
      for (const name of change.removed) references.delete(name);
      this.references = references;
      // Only what this proxy has for itself says the epoch.
      this.epoch = references.get('own')?.epoch || this.epoch;
      this.#options.onReferences?.(references);
      if (this.snapshot) this.#applied();
    } else return;
    const held = this.#held.get(type)!;
    for (const { name, version, bytes } of change.updated) held.set(name, { version, bytes });
    for (const name of change.removed) held.delete(name);
    this.#saveSoon();
  }

  /** True where there is a plan that says who this workload is, and where the clusters it names are. */
  get complete(): boolean {
    const { snapshot } = this;
    return snapshot?.self !== undefined && (this.#endpointsSeen || snapshot.clusters.size === 0);
  }

  /** Loads what an earlier process kept. Returns the versions, for the ADS client; empty where there is nothing usable. */
  load(instance: string): Map<string, Map<string, string>> {
    const versions = new Map<string, Map<string, string>>();
    const { dir, logger } = this.#options;
    if (!dir) return versions;
    try {
      const stored = JSON.parse(readFileSync(join(dir, FILE), 'utf8')) as Stored;
      const changes = new Map<string, Change>();
      for (const type of PLAN_TYPES) changes.set(type, { updated: [], removed: [], label: stored.epoch });
      for (const r of stored.resources) {
        changes.get(r.type)?.updated.push({ name: r.name, version: r.version, bytes: Buffer.from(r.bytes, 'base64') });
      }
      const self = changes.get(PART_TYPE)!.updated.find((u) => u.name === 'self');
      const kind = self && fromBinary(PartSchema, self.bytes).kind;
      if (kind?.case !== 'self' || kind.value.instance !== instance) return versions;
      for (const [type, change] of changes) {
        this.update(type, change);
        versions.set(type, new Map(change.updated.map((u) => [u.name, u.version])));
      }
    } catch (error) {
      if ((error as { code?: string }).code !== 'ENOENT')
        logger.warn({ error: String(error) }, 'stored plan is not used');
      return new Map();
    }
    return versions;
  }

  #applied(): void {
    if (this.snapshot?.self) this.#options.onApplied(this.snapshot, this.epoch);
  }

  #saveSoon(): void {
    if (!this.#options.dir || this.#timer) return;
    this.#timer = setTimeout(() => this.save(), SAVE_DELAY_MS);
    this.#timer.unref();
  }

  /** Writes the plan to disk: whole, or the old one stays. */
  save(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { dir, logger } = this.#options;
    if (!dir || !this.complete) return;
    const stored: Stored = { epoch: String(this.epoch), resources: [] };
    for (const [type, held] of this.#held) {
      for (const [name, { version, bytes }] of held) {
        stored.resources.push({ type, name, version, bytes: Buffer.from(bytes).toString('base64') });
      }
    }
    try {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      const path = join(dir, FILE);
      writeFileSync(`${path}.new`, JSON.stringify(stored), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      logger.warn({ error: String(error) }, 'the plan could not be kept on disk');
    }
  }
}
