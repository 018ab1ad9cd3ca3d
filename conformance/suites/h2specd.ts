import { execFile } from 'node:child_process';
import { debian, goProgram } from '../install.ts';
import { startPair } from '../pair.ts';
import { freePorts } from '../ports.ts';
import { type Suite, type SuiteResult, Tally } from '../suite.ts';

const VERSION = 'v2.2.1+incompatible';
const CASES = 57;
const RUN_MS = 200_000;

let h2specd = '';

/** Reads the tool's text: a line a case, `✔ 1: …` or `× 1: …` below its section, and what it wanted below a failure. */
function judge(output: string, tally: Tally): void {
  const lines = output.replaceAll(/\x1b\[[0-9;]*m/g, '').split('\n');
  const end = lines.findIndex((line) => line.startsWith('Failures:') || line.startsWith('Finished in'));
  let section = '';
  for (let i = 0; i < (end < 0 ? lines.length : end); i++) {
    const line = lines[i]?.trim() ?? '';
    if (/^[\d.]+\. /.test(line)) section = line;
    else if (/^✔ \d+:/.test(line)) tally.passed++;
    else if (/^× \d+:/.test(line)) {
      tally.failed++;
      const wanted = lines.slice(i + 1, i + 5).map((l) => l.trim());
      tally.failures.push(`${section} ${line} ${wanted.join(' ')}`);
    } else if (/^\d+: /.test(line)) {
      tally.skipped++;
      tally.notes.push(`${section} ${line} was skipped`);
    }
  }
  const seen = tally.passed + tally.failed + tally.skipped;
  if (seen === CASES) return;
  tally.failed++;
  tally.failures.push(
    `${seen} of ${CASES} cases ran: ${lines
      .filter((l) => l !== '')
      .slice(-3)
      .join(' ')}`,
  );
}

export const suite: Suite = {
  name: 'h2specd',
  about: 'HTTP/2 conformance of the client that speaks to applications',
  inShortForm: true,
  async install() {
    debian({ curl: 'curl' });
    h2specd = goProgram('github.com/summerwind/h2spec/cmd/h2specd', VERSION, 'h2specd');
  },
  async run(ctx): Promise<SuiteResult> {
    const network = `127.61.${process.pid % 250}`;
    const appHost = `${network}.9`;
    const from = await freePorts(appHost, CASES);
    const pair = await startPair({
      network,
      ports: Array.from({ length: CASES }, (_, i) => ({
        port: from + i,
        appHost,
        appPort: from + i,
        protocol: 'http2' as const,
        timeoutMs: 2500,
      })),
    });
    ctx.cleanup(() => pair.stop());
    // For each case the tool runs this command with the case's URL: a request to the same port of the front.
    const ask = `curl -s -o /dev/null --max-time 3 --connect-to ::${pair.front.address}:`;
    const args = ['-S', '-h', appHost, '-f', String(from), '-e', ask];
    const output = await new Promise<string>((resolve) => {
      const child = execFile(h2specd, args, { timeout: RUN_MS, maxBuffer: 256 << 20 }, (_error, stdout) =>
        resolve(stdout),
      );
      ctx.cleanup(() => void child.kill('SIGKILL'));
    });
    const tally = new Tally();
    judge(output, tally);
    return tally;
  },
};
