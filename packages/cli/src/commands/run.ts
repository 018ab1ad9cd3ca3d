import type { InstanceStatus, ProcessSpec } from '@weft/host';
import type { Command } from 'commander';
import { ask, chooseMesh, example, type MeshOption, meshOption, print, wholeNumber } from '../common.ts';
import { onSignals } from '../mesh.ts';

/** `weft run`: one more process in a running mesh, until Ctrl-C. */
export function addRun(program: Command): void {
  example(
    program
      .command('run')
      .description('join one more process to a running mesh, until Ctrl-C or its end')
      .requiredOption('--service <name>', 'the value of its label "app", which services select')
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
  const labels = new Map([['app', options.service]]);
  for (const l of options.label ?? []) {
    const [key, value] = l.split('=', 2);
    labels.set(key!, value ?? '');
  }
  const spec: ProcessSpec = {
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
    injected: true,
    injectedReason: 'weft run',
  };
  let stopped = false;
  onSignals(() => {
    stopped = true;
  });
  const made = await ask<InstanceStatus>(mesh, 'POST', '/run', { spec }, 60_000);
  print(`[weft] ${made.name} joined mesh ${mesh} at ${made.address}`);
  let shown = 0;
  let end: InstanceStatus | undefined;
  while (!stopped) {
    const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
    end = instances.find((i) => i.name === made.name);
    const logs = await ask<{ lines: string[] }[]>(
      mesh,
      'GET',
      `/logs?name=${encodeURIComponent(made.name)}&lines=10000`,
    ).catch(() => []);
    const lines = logs[0]?.lines ?? [];
    for (const l of lines.slice(Math.min(shown, lines.length))) print(l);
    shown = lines.length;
    if (!end || end.state === 'completed' || end.state === 'failed') break;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  if (end) await ask(mesh, 'POST', '/remove', { name: made.name }, 60_000).catch(() => {});
  process.exitCode = end?.state === 'failed' ? (end.exitCode ?? 1) : 0;
}
