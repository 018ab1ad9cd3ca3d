/** From files to a running mesh: what `weft up` and `weft demo` share. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { formatPosition, WeftError } from '@weft/base';
import { transparentUnavailable } from '@weft/capture';
import {
  isAttachment,
  isTestFile,
  type LoadResult,
  loadFiles,
  MAX_FILE_BYTES,
  type SourceFile,
  sourceFile,
  tooLarge,
} from '@weft/config';
import { MeshHost, type MeshHostOptions, type ProcessSpec } from '@weft/host';
import { judgeKeyPair } from '@weft/identity';
import { captureAll, groupSpecs, injected, type Model, meshConfigOf, serviceSpecs } from '@weft/model';
import { faultText } from './fault-text.ts';
import { nodeCommand, proxyProgram } from './proxy-program.ts';

export interface UpOptions {
  mesh: string;
  files: readonly string[];
  capture: 'auto' | 'transparent' | 'explicit';
  say(name: string, line: string): void;
  onChange?(): void;
  controlExtra?: Readonly<Record<string, unknown>>;
  allowPending?: boolean;
  /** Where hosts may join. */
  listen?: string;
}

/**
 * YAML files of the given files and folders (folders: their own, not their sub-folders'), absolute and sorted, and the
 * certificates and keys beside them.
 */
export function findFiles(given: readonly string[]): string[] {
  const found: string[] = [];
  for (const g of given) {
    const full = path.resolve(g);
    let stat: ReturnType<typeof statSync>;
    try {
      stat = statSync(full);
    } catch {
      throw new WeftError('no-file', `${g} does not exist`);
    }
    if (!stat.isDirectory()) {
      found.push(full);
      continue;
    }
    const visible = readdirSync(full).filter((n) => !n.startsWith('.') && !isTestFile(n));
    const inside = visible.filter((n) => /\.(ya?ml|json)$/.test(n)).sort();
    if (inside.length === 0) throw new WeftError('no-file', `${g} holds no .yaml, .yml or .json file`);
    found.push(...[...inside, ...visible.filter(isAttachment).sort()].map((n) => path.join(full, n)));
  }
  return [...new Set(found)];
}

/** The files of mesh tests among the given files, and in the given folders. */
export function findTests(given: readonly string[]): string[] {
  const found = given.flatMap((g) => {
    const full = path.resolve(g);
    const stat = statSync(full, { throwIfNoEntry: false });
    if (!stat) throw new WeftError('no-file', `${g} does not exist`);
    if (!stat.isDirectory()) return isTestFile(full) ? [full] : [];
    const names = readdirSync(full).filter((n) => isTestFile(n) && !n.startsWith('.'));
    return names.sort().map((n) => path.join(full, n));
  });
  return [...new Set(found)];
}

/** One line of a problem: `file:line: severity: message (field)`. */
export function formatProblem(p: {
  severity: string;
  message: string;
  file?: string;
  line?: number;
  field?: string;
}): string {
  const place = p.file
    ? formatPosition({
        file: path.relative(process.cwd(), p.file) || p.file,
        line: p.line ?? 1,
        ...(p.field ? { field: p.field } : {}),
      })
    : '';
  return `${place ? `${place}: ` : ''}${p.severity}: ${p.message}`;
}

/** What the files say, with every problem, certificates checked against their keys. */
export function readFiles(files: readonly string[], allowPending = false): LoadResult {
  return loadFiles(readSources(files), { judgeKeyPair, allowPending });
}

/** The texts of files. */
export function readSources(files: readonly string[]): SourceFile[] {
  return files.map((f) => {
    const { size } = statSync(f);
    return size > MAX_FILE_BYTES ? tooLarge(f, size) : sourceFile(f, readFileSync(f));
  });
}

/** The model of files, or an error that lists every problem. Warnings go to `warn`. */
export function loadModel(files: readonly string[], warn: (line: string) => void, allowPending = false): Model {
  const { model, problems } = readFiles(files, allowPending);
  const errors = problems.filter((p) => p.severity === 'error');
  for (const p of problems) if (p.severity !== 'error') warn(formatProblem(p));
  if (errors.length > 0 || !model)
    throw new WeftError(
      'config',
      errors.length === 1
        ? formatProblem(errors[0]!)
        : `the configuration is refused:\n${errors.map((p) => `  ${formatProblem(p)}`).join('\n')}`,
    );
  return model;
}

export function processSpecs(model: Model): ProcessSpec[] {
  return model.processes.map((p) => {
    const decision = p.gateway ? { injected: true, reason: 'it is a gateway' } : injected(model, p);
    return {
      gateway: p.gateway !== undefined,
      name: p.name,
      namespace: p.namespace,
      serviceAccount: p.serviceAccountName,
      labels: p.labels,
      command: p.command,
      cwd: path.resolve(path.dirname(p.source.file), p.cwd ?? '.'),
      env: p.env,
      ports: p.ports.map((x) => ({ number: x.port, name: x.name, protocol: x.protocol })),
      replicas: p.replicas,
      readiness: p.readinessProbe,
      restartPolicy: p.restartPolicy,
      runAsUser: p.runAsUser,
      ...(p.capture !== captureAll && { captureScope: p.capture }),
      injected: decision.injected,
      injectedReason: decision.reason,
    };
  });
}

/** Which capture is used, and a sentence that says so and why. */
export function chooseCapture(wanted: UpOptions['capture']): { capture: 'transparent' | 'explicit'; why: string } {
  const unavailable = transparentUnavailable();
  if (wanted === 'transparent' && unavailable) throw new WeftError('capture', `${unavailable}: use --capture explicit`);
  if (wanted !== 'explicit' && !unavailable) {
    return {
      capture: 'transparent',
      why: 'capture: transparent (each workload in a network namespace of its own; nothing goes around its proxy)',
    };
  }
  const reason = wanted === 'explicit' ? 'asked for' : unavailable;
  return {
    capture: 'explicit',
    why: `capture: explicit (${reason}); not enforced here: direct calls to an application's own socket, and applications that ignore HTTP_PROXY`,
  };
}

/** Reads the files again where one of them changed since the last time. Warnings are the control plane's to say. */
function reloader(given: readonly string[], allowPending: boolean | undefined): NonNullable<MeshHostOptions['reload']> {
  let seen = '';
  let last: ReturnType<NonNullable<MeshHostOptions['reload']>>;
  return () => {
    const files = findFiles(given);
    const now = files
      .map((f) => {
        const { ino, size, mtimeNs } = statSync(f, { bigint: true });
        return `${f} ${ino} ${size} ${mtimeNs}`;
      })
      .join('\n');
    if (now !== seen) {
      const model = loadModel(files, () => {}, allowPending);
      last = { processes: processSpecs(model), services: serviceSpecs(model), groups: groupSpecs(model) };
      seen = now;
    }
    return last;
  };
}

/** Services that ask for IPv6 where there is none. Loopback addresses, which explicit capture gives, are of IPv4. */
export function ipv6Warnings(model: Model, capture: 'transparent' | 'explicit', machineHasIpv6: boolean): string[] {
  if (capture === 'transparent' && machineHasIpv6) return [];
  const why = capture === 'explicit' ? 'with --capture explicit there is none: it gets' : 'this machine has none: use';
  return model.services
    .filter((s) => s.families?.includes(6) && !s.external)
    .map((s) => `warning: Service ${s.namespace}/${s.name} asks for IPv6, ${why} an IPv4 address`);
}

/** Loads, checks and starts a mesh; throws after cleaning up. */
export async function bringUp(
  options: UpOptions,
): Promise<{ host: MeshHost; model: Model; capture: 'transparent' | 'explicit' }> {
  const files = findFiles(options.files);
  const model = loadModel(files, (line) => options.say('weft', line), options.allowPending);
  if (model.processes.length === 0)
    options.say('weft', 'warning: the files hold no Process, so nothing is started; "weft run" adds one');
  const { capture, why } = chooseCapture(options.capture);
  options.say('weft', why);
  if (capture === 'explicit') {
    for (const p of model.processes) {
      if (p.capture === captureAll) continue;
      const what = 'the annotations that leave ports or addresses out of capture have no effect';
      options.say(
        'weft',
        `warning: ${p.namespace}/${p.name}: ${what} with --capture explicit, which redirects nothing`,
      );
    }
  }
  for (const line of ipv6Warnings(model, capture, existsSync('/proc/net/if_inet6'))) options.say('weft', line);
  createRequire(import.meta.url).resolve('@weft/control'); // A broken installation is said before anything is made.
  const trustDomain = meshConfigOf(model)?.trustDomain;
  const hostOptions: MeshHostOptions = {
    mesh: options.mesh,
    capture,
    processes: processSpecs(model),
    services: serviceSpecs(model),
    groups: groupSpecs(model),
    // Folders as such, so that a file added to one is seen.
    files: options.files.map((f) => path.resolve(f)),
    controlCommand: nodeCommand([], path.join(import.meta.dirname, 'main.ts'), 'control-plane'),
    proxyProgram,
    faultText,
    reload: reloader(options.files, options.allowPending),
    ...(trustDomain && { trustDomain }),
    listen: options.listen,
    say: options.say,
    ...(options.onChange ? { onChange: options.onChange } : {}),
    controlExtra: { ...options.controlExtra, ...(options.allowPending ? { allowPending: true } : {}) },
  };
  const host = new MeshHost(hostOptions);
  return { host, model, capture };
}

/** Calls `stop` once at the first signal; a second signal does not cut the clean-up short. Returns how to stop listening. */
export function onSignals(stop: (signal: NodeJS.Signals) => void): () => void {
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let called = false;
  const handler = (signal: NodeJS.Signals) => {
    if (called) return;
    called = true;
    stop(signal);
  };
  for (const n of names) process.on(n, handler);
  return () => {
    for (const n of names) process.off(n, handler);
  };
}
