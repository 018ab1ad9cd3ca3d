import { WeftError } from '@weft/base';
import { clean, orderedLines, summary } from '@weft/lab';
import type { Command } from 'commander';
import { callsOf } from '../call-logs.ts';
import {
  ask,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
  wholeNumber,
} from '../common.ts';
import { example } from '../example.ts';

/** `weft logs NAME`: the last lines of a process, its proxy (access log) or the control plane. */
export function addLogs(program: Command): void {
  example(
    program
      .command('logs')
      .description('last lines of a process, of one instance, or of "control-plane"; or all lines of one request')
      .argument('[name]')
      .option('-n, --lines <count>', 'how many', wholeNumber, 100)
      .option('--proxy', 'its proxy instead: access log and messages')
      .option('-F, --follow', 'go on with new lines until Ctrl-C')
      .option('--request-id <id>', 'lines of proxies and applications about one request, as one caused the other')
      .addOption(outputOption())
      .addOption(meshOption())
      .action(logs),
    'weft logs payment-v1',
    'weft logs payment-v1-0 --proxy -n 20',
    'weft logs --request-id 2f0c3a52-7d0e-4a39-9d6f-1f6f3c5f9f10',
  );
}

interface LogsOptions extends MeshOption, OutputOption {
  lines: number;
  proxy?: boolean;
  follow?: boolean;
  requestId?: string;
}

/** Proxies' lines in short, applications' as they are; `json`: all of them whole. */
function requestLogs({ mesh, requestId, output }: LogsOptions): void {
  const lines = orderedLines(callsOf(mesh, requestId as string));
  if (output === 'json') {
    printJson(lines.map(({ instance, from, depth, text }) => ({ instance, from, depth, line: text })));
    return;
  }
  for (const { instance, from, depth, text, hop } of lines) {
    const side = hop?.reporter === 'destination' ? 'called' : 'caller';
    const said = hop ? `${new Date(hop.startMs).toISOString()} ${side}: ${summary(hop)}` : clean(text);
    print(`${'  '.repeat(depth)}[${instance}${from === 'proxy' ? ' proxy' : ''}] ${said}`);
  }
}

async function logs(name: string | undefined, options: LogsOptions): Promise<void> {
  if (options.requestId !== undefined) {
    if (name !== undefined || options.proxy || options.follow)
      throw new WeftError('usage', '--request-id looks through all logs: leave NAME, --proxy and --follow out');
    requestLogs(options);
    return;
  }
  if (name === undefined) throw new WeftError('usage', 'say whose lines: weft logs NAME, or --request-id ID');
  if (options.output === 'json')
    throw new WeftError('usage', '-o json is for --request-id: lines are printed as they are');
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
