import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Command } from 'commander';
import { addProxyOf } from '../proxy-command.ts';
import { ONCE, proxyProgram } from '../proxy-program.ts';

/** `weft proxy`: as `weft up` starts it, by one file made of the sources. */
export function addProxy(program: Command): void {
  addProxyOf(program, async () => {
    await becomeOneFile();
    return import('@weft/proxy');
  });
  program.commands.at(-1)!.option('--sources', 'by the sources, not by one file that is made of them first');
}

/** Goes on as that program, in this process's place. Returns where it cannot be made, or is not to be. */
async function becomeOneFile(): Promise<void> {
  const given = process.argv.slice(3);
  if (process.env.WEFT_SOURCES || given.includes('--sources') || !process.execve) return;
  const dir = mkdtempSync(path.join(tmpdir(), 'weft-proxy-'));
  const { command } = await proxyProgram(dir);
  if (command.at(-1) === '--sources') rmSync(dir, { recursive: true, force: true });
  else process.execve(command[0]!, [...command, ...given], { ...process.env, [ONCE]: '1' });
}
