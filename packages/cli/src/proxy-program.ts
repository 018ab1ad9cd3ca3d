/** What a proxy runs: of this installation, or of another one. */
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { WeftError } from '@weft/base';
import type { ProxyProgram } from '@weft/host';
import { bundle } from './bundle.ts';

const here = import.meta.dirname;
const ROOT = path.resolve(here, '../../..');
const SOURCES = path.join('packages', 'cli', 'src');
const MADE = 'proxy-main.mjs';
/** In its environment where the one file and its folder are for one start alone. */
export const ONCE = 'WEFT_PROGRAM_ONCE';

/**
 * One file made of the sources of this moment in `dir`, a folder of the mesh's own that ends with it; the sources themselves
 * where that cannot be made, or WEFT_SOURCES says so. `installation`: the folder of another Weft, or of the one file that
 * was made of one (`proxy-main.mjs`), or that file. Throws where it is neither.
 */
export async function proxyProgram(dir: string, installation?: string): Promise<ProxyProgram> {
  if (installation === undefined) return ofSources(ROOT, dir);
  if (!existsSync(installation)) throw new WeftError('program', `${installation} does not exist`);
  const given = realpathSync(installation);
  const stat = statSync(given);
  const file = stat.isDirectory() ? path.join(given, MADE) : given;
  if (existsSync(path.join(given, SOURCES, 'proxy-main.ts'))) return ofSources(given, dir);
  if (!/\.m?js$/.test(file) || !existsSync(file))
    throw new WeftError(
      'program',
      `${installation} holds no Weft: it is the folder of an installation (with ${path.join(SOURCES, 'proxy-main.ts')}), or ${MADE}, the one file of its proxy`,
    );
  // What a proxy runs when it comes back is what it ran before, whatever becomes of the file.
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const kept = path.join(dir, MADE);
  copyFileSync(file, kept);
  return { command: command(ROOT, kept), version: builtVersion(versionOf(path.dirname(file)), kept) };
}

/** How this program starts a script of an installation, with a command of it. */
export function nodeCommand(flags: readonly string[], script: string, name: string): string[] {
  return [process.execPath, ...flags, '--disable-warning=ExperimentalWarning', script, name];
}

async function ofSources(root: string, dir: string): Promise<ProxyProgram> {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const sources = path.join(root, SOURCES);
  const version = versionOf(root);
  const made = process.env.WEFT_SOURCES ? undefined : await bundle(path.join(sources, 'proxy-main.ts'), dir);
  return made
    ? { command: command(root, made), version: builtVersion(version, made) }
    : {
        // Another installation may not know the option; it may try once more.
        command: [...command(root, path.join(sources, 'main.ts')), ...(root === ROOT ? ['--sources'] : [])],
        version: `${version}+sources`,
      };
}

/**
 * With the flags of its own installation. A proxy's objects die young: a larger nursery costs memory and saves nothing (measured). Nor may the engine conclude from a time in which many requests waited that heads are best made old: floods then cost 80 MB before they are collected.
 */
function command(root: string, script: string): string[] {
  const flags = JSON.parse(readFileSync(path.join(root, 'packages/cli/proxy-flags.json'), 'utf8')) as string[];
  return nodeCommand(flags, script, 'proxy');
}

function versionOf(folder: string): string {
  try {
    const { version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as { version?: unknown };
    if (typeof version === 'string' && version !== '') return version;
  } catch {
    // Without one it is known by its content alone.
  }
  return '0.0.0';
}

/** Two builds of one version are told apart by what is in them, as semver's build metadata. */
function builtVersion(version: string, file: string): string {
  return `${version}+${createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 8)}`;
}
