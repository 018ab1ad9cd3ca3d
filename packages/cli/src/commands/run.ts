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
      .requiredOption('--service <name>', 'the service it belongs to; made for it where the mesh has none of that name')
      .requiredOption('--port <number>', 'where it listens', wholeNumber)
      .option('--service-account <name>', 'its identity', 'default')
      .option('-n, --namespace <name>', 'its namespace', 'default')
      .option('-l, --label <key=value...>', 'more labels')
      .argument('<command...>', 'after --')
      .addOption(meshOption())
      .action(run),
    'weft run --service payment --port 8080 -l version=v3 -- node payment.mjs',
  );
}

async function run(
  command: string[],
  options: MeshOption & { service: string; port: number; serviceAccount: string; namespace: string; label?: string[] },
): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  if (options.port < 1 || options.port > 65_535) throw new WeftError('port', `--port ${options.port} is no port`);
  const labels = new Map<string, string>();
  for (const l of options.label ?? []) {
    const at = l.indexOf('=');
    if (at < 1) throw new WeftError('label', `--label ${l}: KEY=VALUE is needed`);
    labels.set(l.slice(0, at), l.slice(at + 1));
  }
  const request: RunRequest = {
    service: options.service,
    process: {
      name: `${options.service}-run`,
      namespace: options.namespace,
      serviceAccount: options.serviceAccount,
      labels: Object.fromEntries(labels),
      command,
      cwd: process.cwd(),
      env: [],
      ports: [{ number: options.port }],
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
