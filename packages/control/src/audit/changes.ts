/** Who changed which configuration when: a line for each epoch, each refusal and each change of the CA, in `audit/changes.jsonl`. */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '@weft/base';
import { type Problem, resourcesOf } from '@weft/config';
import type { SourceFile } from '../state.ts';
import type { JsonLines } from './log.ts';

/** A user of this machine. */
export interface Actor {
  uid: number;
  /** Absent where the machine has no name for it. */
  user?: string;
}

export interface ChangedFile {
  path: string;
  change: 'added' | 'changed' | 'removed';
  /** Whose file it is; absent where it is gone. */
  owner?: Actor;
  modified?: string;
}

export interface ChangedResource {
  change: 'added' | 'changed' | 'removed';
  /** `kind/namespace/name`, or `kind/name`. */
  resource: string;
  /** Where it stands, or stood. */
  file: string;
  line: number;
}

export interface Change {
  at: string;
  event: 'configuration' | 'refused' | 'certificate-authority';
  epoch: number;
  /**
   * The owner of the file that changed last; where that is gone, and for the CA, whoever runs the control plane. That is
   * all that a file system and a socket only its owner may open can tell.
   */
  actor: Actor;
  files?: ChangedFile[];
  resources?: ChangedResource[];
  /** Why the files were refused. */
  problems?: Pick<Problem, 'code' | 'message' | 'resource' | 'file' | 'line'>[];
  /** Resources or problems past the limit of a line. */
  more?: number;
  /** Of the CA: rotate, revoke, restore, federate, and with what. */
  what?: string;
  detail?: Record<string, unknown>;
}

const MAX_RESOURCES = 1000;
const MAX_PROBLEMS = 20;

interface Known {
  resource: string;
  digest: string;
  file: string;
  line: number;
}

/** A file and what is in it, by API group, kind, namespace and name. */
interface Digested {
  readonly text: string;
  readonly resources: ReadonlyMap<string, Known>;
}

export class ChangeLog {
  readonly #lines: JsonLines;
  readonly #clock: Clock;
  #files: Map<string, Digested>;

  /** `before`: the files of the epoch that is in force already. */
  constructor(lines: JsonLines, clock: Clock, before: readonly SourceFile[]) {
    this.#lines = lines;
    this.#clock = clock;
    this.#files = digested(before, new Map());
  }

  /** An epoch began with these files. */
  epoch(epoch: number, files: readonly SourceFile[]): void {
    const changed = this.#changed(files);
    const after = digested(files, this.#files);
    const all = compare(this.#files, after);
    this.#files = after;
    this.#add({
      event: 'configuration',
      epoch,
      actor: actorIn(changed),
      files: changed,
      resources: all.slice(0, MAX_RESOURCES),
      ...(all.length > MAX_RESOURCES && { more: all.length - MAX_RESOURCES }),
    });
  }

  /** The files are refused, and that epoch stays. */
  refused(epoch: number, files: readonly SourceFile[], problems: readonly Problem[]): void {
    const changed = this.#changed(files);
    const errors = problems.filter((p) => p.severity === 'error');
    this.#add({
      event: 'refused',
      epoch,
      actor: actorIn(changed),
      files: changed,
      problems: errors.slice(0, MAX_PROBLEMS).map(({ code, message, resource, file, line }) => ({
        ...{ code, message: message.slice(0, 500), resource, file, line },
      })),
      ...(errors.length > MAX_PROBLEMS && { more: errors.length - MAX_PROBLEMS }),
    });
  }

  /** What is different from the files in force, at most so many. */
  #changed(files: readonly SourceFile[]): ChangedFile[] {
    const after = new Map(files.map((f) => [f.path, f.text]));
    const changed: ChangedFile[] = [];
    for (const [path, text] of after) {
      const before = this.#files.get(path)?.text;
      if (before !== text) changed.push({ path, change: before === undefined ? 'added' : 'changed', ...fileOf(path) });
    }
    for (const path of this.#files.keys()) if (!after.has(path)) changed.push({ path, change: 'removed' });
    return changed.slice(0, MAX_RESOURCES);
  }

  /** The CA was changed through the local API. */
  authority(epoch: number, what: string, detail: Record<string, unknown>): void {
    this.#add({ event: 'certificate-authority', epoch, actor: self(), what, detail });
  }

  since(sinceMs: number): Change[] {
    return (this.#lines.read() as unknown as Change[]).filter((c) => Date.parse(c.at) >= sinceMs);
  }

  #add(change: Omit<Change, 'at'>): void {
    this.#lines.add({ at: new Date(this.#clock.wall()).toISOString(), ...change });
  }
}

/** Only files with other contents are looked into. */
function digested(files: readonly SourceFile[], before: ReadonlyMap<string, Digested>): Map<string, Digested> {
  return new Map(
    files.map((file) => {
      const known = before.get(file.path);
      return [file.path, known?.text === file.text ? known : { text: file.text, resources: digests(file) }];
    }),
  );
}

function digests(file: SourceFile): Map<string, Known> {
  return new Map(
    resourcesOf([file]).map((r) => [
      `${r.group} ${r.kind}/${r.namespace}/${r.name}`,
      {
        resource: [r.kind, r.namespace, r.name].filter((w) => w !== '').join('/'),
        digest: createHash('sha256').update(r.content).digest('base64'),
        file: r.file,
        line: r.line,
      },
    ]),
  );
}

function compare(before: ReadonlyMap<string, Digested>, after: ReadonlyMap<string, Digested>): ChangedResource[] {
  const old = resourcesIn(before, after);
  const now = resourcesIn(after, before);
  const out: ChangedResource[] = [];
  for (const [key, { resource, digest, file, line }] of now) {
    const was = old.get(key);
    if (was?.digest !== digest) out.push({ change: was ? 'changed' : 'added', resource, file, line });
  }
  for (const [key, { resource, file, line }] of old)
    if (!now.has(key)) out.push({ change: 'removed', resource, file, line });
  return out;
}

/** Of the files that are not the same in `others`: one that moved from file to file is in both then. */
function resourcesIn(files: ReadonlyMap<string, Digested>, others: ReadonlyMap<string, Digested>): Map<string, Known> {
  const out = new Map<string, Known>();
  for (const [path, file] of files) {
    if (others.get(path) !== file) for (const [key, known] of file.resources) out.set(key, known);
  }
  return out;
}

function fileOf(path: string): Pick<ChangedFile, 'owner' | 'modified'> {
  try {
    const { uid, mtime } = statSync(path);
    return { owner: actorOf(uid), modified: mtime.toISOString() };
  } catch {
    return {};
  }
}

/** The owner of the file that changed last. */
function actorIn(changed: readonly ChangedFile[]): Actor {
  const there = changed.filter((f) => f.owner !== undefined);
  const last = there.sort((a, b) => (a.modified! < b.modified! ? 1 : -1))[0]?.owner;
  return last ?? ownerOfFolder(changed) ?? self();
}

/** Only removals: who may remove from the folder is the nearest that can be said. */
function ownerOfFolder(changed: readonly ChangedFile[]): Actor | undefined {
  try {
    return changed.length === 0 ? undefined : actorOf(statSync(dirname(changed[0].path)).uid);
  } catch {
    return undefined;
  }
}

function self(): Actor {
  return actorOf(process.getuid?.() ?? -1);
}

function actorOf(uid: number): Actor {
  let users = '';
  try {
    users = readFileSync('/etc/passwd', 'utf8');
  } catch {}
  const line = users.split('\n').find((l) => l.split(':')[2] === String(uid));
  return line ? { uid, user: line.split(':')[0] } : { uid };
}
