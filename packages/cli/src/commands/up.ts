import { constants } from 'node:os';
import { formatIp, parseIp, parseIpBlock } from '@weft/base';
import { MAX_CERT_TTL_MS, MIN_CERT_TTL_MS } from '@weft/identity';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { print } from '../common.ts';
import { duration } from '../duration.ts';
import { entrances, entranceUrl } from '../entrances.ts';
import { example } from '../example.ts';
import { bringUp, onSignals } from '../mesh.ts';
import { age, table } from '../table.ts';

/** `weft up`: a mesh on this machine, until it is told to stop. */
export function addUp(program: Command): void {
  example(
    program
      .command('up')
      .description('start the processes of the files as a mesh and keep it running until Ctrl-C')
      .requiredOption('-f, --files <path...>', 'folders or files with the configuration')
      .addOption(
        new Option('--mesh <name>', 'a name, so that several run side by side').env('WEFT_MESH').default('default'),
      )
      .addOption(
        new Option('--capture <mode>', 'how traffic is captured')
          .choices(['auto', 'transparent', 'explicit'])
          .default('auto'),
      )
      .option(
        '--listen <address>',
        'an address of this machine at which hosts may join ("weft host"): its ports 15012 and 15443 are opened',
        ipAddress,
      )
      .option('-q, --quiet', 'no output of the applications ("weft logs" has it)')
      .option('--cert-ttl <time>', "life of the workloads' certificates, 10s to 90d (default: 24h)", certTtl)
      .option('--allow-pending', 'warn of kinds that are known but have no effect yet, instead of refusing them')
      .option(
        '--jwks-allow <blocks>',
        'address blocks (10.0.0.0/8,…) that keys of token issuers may come from though they are not public',
        blocks,
      )
      .action(up),
    'weft up -f examples/shop/mesh',
  );
}

/** One address, not all of them: others must know where to come, and the control plane listens at another one too. */
export function ipAddress(text: string): string {
  const ip = parseIp(text);
  if (!ip || /^(0\.0\.0\.0|::)$/.test(formatIp(ip)))
    throw new InvalidArgumentError('one IP address of this machine is needed.');
  return formatIp(ip);
}

function certTtl(text: string): number {
  const ms = duration(text);
  if (ms < MIN_CERT_TTL_MS || ms > MAX_CERT_TTL_MS) throw new InvalidArgumentError('it may be 10s to 90d.');
  return ms;
}

function blocks(text: string): string[] {
  const list = text.split(',').filter((b) => b !== '');
  for (const block of list) if (!parseIpBlock(block)) throw new InvalidArgumentError(`${block} is no address block.`);
  return list;
}

async function up(options: {
  files: string[];
  mesh: string;
  capture: 'auto' | 'transparent' | 'explicit';
  quiet?: boolean;
  listen?: string;
  certTtl?: number;
  allowPending?: boolean;
  jwksAllow?: string[];
}): Promise<void> {
  const started = performance.now();
  const { host, model } = await bringUp({
    mesh: options.mesh,
    files: options.files,
    capture: options.capture,
    allowPending: options.allowPending ?? false,
    ...(options.listen !== undefined && { listen: options.listen }),
    controlExtra: {
      ...(options.certTtl !== undefined && { certTtlMs: options.certTtl }),
      ...(options.jwksAllow !== undefined && { jwksAllow: options.jwksAllow }),
    },
    say: (name, line) => {
      if (name === 'weft' || !options.quiet) print(`[${name}] ${line}`);
    },
  });
  let end!: (signal?: NodeJS.Signals) => void;
  const ended = new Promise<NodeJS.Signals | undefined>((resolve) => {
    end = resolve;
  });
  // Before anything is made: a signal during the start cleans up too.
  let stopping = false;
  onSignals((signal) => {
    stopping = true;
    end(signal);
    void host.stop();
  });
  host.onDown(() => {
    stopping = true;
    end();
  });
  const start = host.start().then(
    () => undefined,
    (error: Error) => error,
  );
  const first = await Promise.race([start, ended.then(() => 'signal' as const)]);
  if (first instanceof Error) throw first;
  if (first !== 'signal') {
    void host.whenReady().then((late) => {
      if (stopping) return;
      if (late.length > 0) print(`[weft] not ready yet: ${late.join(', ')} ("weft ps" and "weft logs NAME" tell more)`);
      else
        print(
          `[weft] mesh "${options.mesh}" is ready after ${age(performance.now() - started)}\n${statusTable(host.status())}`,
        );
      for (const e of entrances(model, host.status()))
        print(`[weft] gateway ${e.instance} serves ${e.hosts.join(', ')} at ${entranceUrl(e)}`);
    });
  }
  const signal = await ended;
  print('[weft] stopping');
  await host.stop();
  await start;
  print('[weft] stopped, nothing is left behind');
  // By the exit code shells give for a signal: 130 after Ctrl-C is not a failure of ours, 0 is for `weft down`.
  process.exit(signal ? 128 + constants.signals[signal] : 0);
}

export function statusTable(
  instances: readonly {
    name: string;
    namespace: string;
    state: string;
    address: string;
    pid?: number | undefined;
    proxyPid?: number | undefined;
    restarts: number;
    injected: boolean;
    proxyRestarts: number;
    proxyVersion?: string | undefined;
  }[],
): string {
  return table(
    ['NAME', 'NAMESPACE', 'STATE', 'ADDRESS', 'PID', 'PROXY', 'RESTARTS', 'VERSION'],
    instances.map((i) => [
      i.name,
      i.namespace,
      i.state,
      i.address,
      i.pid,
      i.injected ? (i.proxyPid ?? 'down') : 'none',
      i.restarts,
      i.proxyVersion,
    ]),
  );
}
