/** What of a process is wrong before anything starts. */
import { existsSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { WeftError } from '@weft/base';
import { PROXY_UID } from '@weft/capture';
import { executable, onPath } from './application.ts';
import type { ProcessSpec } from './specs.ts';

export function workloadKey(spec: { namespace: string; name: string }): string {
  return `${spec.namespace}/${spec.name}`;
}

/** A missing program or folder is an error before anything starts, not a restart loop. */
export function checkSpec(spec: ProcessSpec): void {
  if (spec.runAsUser === PROXY_UID) {
    throw new WeftError(
      'proxy-uid',
      `process ${spec.name}: runAsUser ${PROXY_UID} is the proxy's, whose traffic is not captured: choose another`,
    );
  }
  if (spec.gateway) return;
  if (!existsSync(spec.cwd)) throw new WeftError('cwd', `process ${spec.name}: the folder ${spec.cwd} does not exist`);
  const program = spec.command[0];
  if (!program) throw new WeftError('command', `process ${spec.name}: the command is empty`);
  if (program.includes('/')) {
    if (!executable(isAbsolute(program) ? program : resolve(spec.cwd, program))) {
      throw new WeftError(
        'command',
        `process ${spec.name}: command "${program}" does not exist or is not executable (from ${spec.cwd})`,
      );
    }
  } else if (!onPath(program, spec.env.find((e) => e.name === 'PATH')?.value)) {
    throw new WeftError(
      'command',
      `process ${spec.name}: command "${program}" is not on PATH: install it or give its path`,
    );
  }
}
