import { WeftError } from '@weft/base';
import { type InstanceStatus, type RunRequest, runningMesh } from '@weft/host';
import type { Command } from 'commander';
import { ask, chooseMesh, type MeshOption, meshOption, print, wholeNumber } from '../common.ts';
import { example } from '../example.ts';
import { onSignals } from '../mesh.ts';

const DEADLINE_MS = 60_000;
const LOOK_MS = 200;

/** `weft run`: one more process in a running mesh, until Ctrl-C. */
export function addRun(program: Command): void {
  example(
    program
      .command('run')
      .description('join one more process to a running mesh, until Ctrl-C or its end')
      .option('--service <name>', 'the service it belongs to; made for it where the mesh has none of that name')
      .option('--group <name>', 'the WorkloadGroup by which it joins: labels, identity, ports and readiness are its')
      .option('--port <number>', 'where it listens; with --group its own', wholeNumber)
      .option('--service-account <name>', 'its identity (default: "default"; with --group its own)')
      .option('-n, --namespace <name>', 'its namespace', 'default')
      .option('-l, --label <key=value...>', 'more labels')
      .argument('<command...>', 'after --')
      .addOption(meshOption())
      .action(run),
    'weft run --service payment --port 8080 -l version=v3 -- node payment.mjs',
    'weft run --group payment-vm -n shop -- ./payment',
  );
}

async function run(
  command: string[],
  options: MeshOption & {
    service?: string;
    group?: string;
    port?: number;
    serviceAccount?: string;
    namespace: string;
    label?: string[];
  },
): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const { service, group, port, serviceAccount } = options;
  if ((service === undefined) === (group === undefined)) throw new WeftError('usage', 'say --service or --group');
  if (group !== undefined && serviceAccount !== undefined)
    throw new WeftError('usage', 'the identity is the group’s: leave --service-account out');
  if (service !== undefined && port === undefined) throw new WeftError('port', 'say where it listens: --port NUMBER');
  if (port !== undefined && (port < 1 || port > 65_535)) throw new WeftError('port', `--port ${port} is no port`);
  const labels = new Map<string, string>();
  for (const l of options.label ?? []) {
    const at = l.indexOf('=');
    if (at < 1) throw new WeftError('label', `--label ${l}: KEY=VALUE is needed`);
    labels.set(l.slice(0, at), l.slice(at + 1));
  }
  const request: RunRequest = {
    service: service ?? '',
    ...(group !== undefined && { group }),
    process: {
      name: `${service ?? group}-run`,
      namespace: options.namespace,
      serviceAccount: serviceAccount ?? 'default',
      labels: Object.fromEntries(labels),
      command,
      cwd: process.cwd(),
      env: [],
      ports: port === undefined ? [] : [{ number: port }],
      replicas: 1,
      restartPolicy: 'Never',
      gateway: false,
      injected: true,
      injectedReason: 'weft run',
    },
  };
  let stopped = false;
  onSignals(() => {
    stopped = true;
  });
  const made = await ask<InstanceStatus>(mesh, 'POST', '/run', request, DEADLINE_MS);
  print(`[weft] ${made.name} joined mesh ${mesh} at ${made.address}`);
  // Its end is the end of what it made: if this command is killed, the mesh sees the connection break.
  ask(mesh, 'GET', `/hold?name=${encodeURIComponent(made.name)}`, undefined, 0).catch(() => {});
  let shown = 0;
  let end: InstanceStatus | undefined;
  for (;;) {
    const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps').catch((error: Error) => {
      throw runningMesh(mesh)
        ? error
        : new WeftError('mesh-down', `mesh "${mesh}" went down, and ${made.name} with it`);
    });
    end = instances.find((i) => i.name === made.name);
    // After the state, so that the last lines of a process that ended are among them.
    const logs = await ask<{ lines: string[] }[]>(
      mesh,
      'GET',
      `/logs?name=${encodeURIComponent(made.name)}&lines=10000`,
    ).catch(() => []);
    const lines = logs[0]?.lines ?? [];
    for (const l of lines.slice(Math.min(shown, lines.length))) print(l);
    shown = lines.length;
    if (stopped || !end || end.state === 'completed' || end.state === 'failed') break;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  if (end) await ask(mesh, 'POST', '/remove', { name: made.name }, DEADLINE_MS).catch(() => {});
  process.exitCode = end?.state === 'failed' ? (end.exitCode ?? 1) : 0;
}
