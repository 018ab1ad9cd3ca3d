import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, silentLogger, WeftError } from '@weft/base';
import { fitToGroup, type InstanceStatus, MeshHost, meshPaths, type ProcessSpec } from '@weft/host';
import { type Command, Option } from 'commander';
import { print } from '../common.ts';
import { example } from '../example.ts';
import { readJoinFile } from '../join-file.ts';
import { chooseCapture, onSignals } from '../mesh.ts';
import { proxyProgram } from '../proxy-program.ts';
import { RemoteControl } from '../remote-control.ts';
import { ipAddress } from './up.ts';

const CONTROL_PORT = 15_012;
const LOOK_MS = 200;

interface HostOptions {
  control: string;
  token: string;
  fingerprint?: string;
  address?: string;
  mesh?: string;
  capture: 'auto' | 'transparent' | 'explicit';
  port?: number;
}

/** `weft host`: a workload on this machine, in a mesh that runs on another one. */
export function addHost(program: Command): void {
  example(
    program
      .command('host')
      .description(
        'run a workload of a WorkloadGroup here, in a mesh that runs on another machine, until Ctrl-C or its end',
      )
      .requiredOption('--control <address>', 'where the mesh listens for hosts ("weft up --listen"): ADDRESS[:15012]')
      .requiredOption('--token <file>', 'what "weft ca token --host NAME --group GROUP" printed there')
      .option('--fingerprint <sha256>', "of the mesh's root: the token's file must hold it")
      .option('--address <address>', 'where other machines reach this one (default: where it comes from)', ipAddress)
      .option('--port <number>', 'where the workload listens, where its group does not say', Number)
      .option('--mesh <name>', 'by which "weft ps" and the others know it here (default: the name of the host)')
      .addOption(
        new Option('--capture <mode>', 'how traffic is captured')
          .choices(['auto', 'transparent', 'explicit'])
          .default('auto'),
      )
      .argument('<command...>', 'after --')
      .action(host),
    'weft host --control 10.0.0.1 --token vm1.join -- ./payment',
  );
}

/** `10.0.0.1`, `mesh.example:15012`, `[fd00::1]:15012`. */
function controlAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? /^([0-9a-fA-F:.]+)$/.exec(text);
  const port = match?.[3] === undefined ? CONTROL_PORT : Number(match[3]);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || port < 1 || port > 65_535)
    throw new WeftError('usage', `--control ${text}: ADDRESS or ADDRESS:PORT is needed`);
  return { host, port };
}

async function host(command: string[], o: HostOptions): Promise<void> {
  const file = readJoinFile(o.token, o.fingerprint);
  const mesh = o.mesh ?? file.host;
  const { capture: wanted, why } = chooseCapture(o.capture);
  const control = controlAddress(o.control);
  const say = (name: string, line: string): void => print(`[${name}] ${line}`);
  const logger: Logger = {
    ...silentLogger,
    warn: (fields, text) => process.env.WEFT_DEBUG && print(`${text} ${JSON.stringify(fields)}`),
  };
  const remote = new RemoteControl({ file, control, dir: join(meshPaths(mesh).root, 'host'), logger });
  let started: Awaited<ReturnType<RemoteControl['start']>>;
  try {
    started = await remote.start();
  } catch (error) {
    remote.stop();
    throw error;
  }
  const { facts, address } = started;
  // Addresses of services mean nothing to a captured application where the mesh does not capture.
  const capture = facts.capture === 'explicit' && o.capture === 'auto' ? 'explicit' : wanted;
  say('weft', capture === wanted ? why : 'capture: explicit, as in the mesh');
  const spec: ProcessSpec = fitToGroup(
    {
      name: file.host,
      namespace: file.namespace,
      serviceAccount: '',
      labels: {},
      command,
      cwd: process.cwd(),
      env: [],
      ports: o.port === undefined ? [] : [{ number: o.port }],
      replicas: 1,
      restartPolicy: 'Never',
      gateway: false,
      injected: true,
      injectedReason: 'weft host',
    },
    facts.group,
  );
  const own = new MeshHost({
    ...{ mesh, capture, processes: [spec], services: facts.services, groups: [], files: [] },
    controlCommand: [],
    proxyProgram,
    remote: {
      ...{ trustDomain: file.trustDomain, rootPem: remote.rootPem, control, network: file.host },
      ...{ address: o.address ?? address, services: facts.services, taken: facts.taken },
      request: (method, path, body, timeoutMs) => remote.request(method, path, body, timeoutMs),
      stop: () => remote.stop(),
    },
    say,
  });
  let ended = false;
  const end = (): void => {
    ended = true;
    void own.stop();
  };
  onSignals(end);
  own.onDown(end);
  try {
    await own.start();
  } catch (error) {
    remote.stop();
    if (ended) return;
    throw error;
  }
  const [made] = own.status();
  say('weft', `${made?.name} joined mesh ${file.mesh} at ${o.address ?? address}`);
  void own.whenReady().then((late) => {
    if (!ended) say('weft', late.length > 0 ? `not ready yet: ${late.join(', ')}` : `${made?.name} is ready`);
  });
  let last: InstanceStatus | undefined;
  while (!ended) {
    const all = own.status();
    last = all.find((i) => i.state === 'failed') ?? all.find((i) => i.state === 'completed');
    if (all.every((i) => i.state === 'completed' || i.state === 'failed')) break;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  say('weft', 'leaving the mesh');
  await own.stop();
  if (existsSync(meshPaths(mesh).lock))
    say('weft', `not everything could be removed: "weft down --mesh ${mesh}" tries again`);
  process.exit(ended ? 0 : last?.state === 'failed' ? (last.exitCode ?? 1) : 0);
}
