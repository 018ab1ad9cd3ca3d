import type { Command } from 'commander';
import { ask, chooseMesh, type MeshOption, meshOption, print, wholeNumber } from '../common.ts';
import { example } from '../example.ts';

/** `weft logs NAME`: the last lines of a process, its proxy (access log) or the control plane. */
export function addLogs(program: Command): void {
  example(
    program
      .command('logs')
      .description('last lines of a process, of one instance, or of "control-plane"')
      .argument('<name>')
      .option('-n, --lines <count>', 'how many', wholeNumber, 100)
      .option('--proxy', 'its proxy instead: access log and messages')
      .option('-F, --follow', 'go on with new lines until Ctrl-C')
      .addOption(meshOption())
      .action(logs),
    'weft logs payment-v1',
    'weft logs payment-v1-0 --proxy -n 20',
  );
}

async function logs(
  name: string,
  options: MeshOption & { lines: number; proxy?: boolean; follow?: boolean },
): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const path = (lines: number) =>
    `/logs?name=${encodeURIComponent(name)}&lines=${lines}${options.proxy ? '&proxy=1' : ''}`;
  const fetchLogs = (lines: number) => ask<{ name: string; lines: string[] }[]>(mesh, 'GET', path(lines));
  let shown = await fetchLogs(options.lines);
  const show = (from: string, lines: readonly string[]) => {
    for (const l of lines) print(shown.length > 1 ? `[${from}] ${l}` : l);
  };
  for (const s of shown) show(s.name, s.lines);
  while (options.follow) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const now = await fetchLogs(1000);
    for (const s of now) {
      const before = shown.find((x) => x.name === s.name)?.lines ?? [];
      // New is what follows the last place where the lines seen before end.
      let start = s.lines.length;
      while (start > 0 && !endsWith(s.lines.slice(0, start), before)) start--;
      show(s.name, s.lines.slice(start));
    }
    shown = now;
  }
}

function endsWith(lines: readonly string[], before: readonly string[]): boolean {
  const n = Math.min(5, before.length, lines.length);
  for (let i = 1; i <= n; i++) if (lines[lines.length - i] !== before[before.length - i]) return false;
  return true;
}
