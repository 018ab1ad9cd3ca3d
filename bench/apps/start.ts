import type { ChildProcess } from 'node:child_process';
import { loadProgram } from '../load/go.ts';
import type { Kind, Stage } from '../stage.ts';
import { startNginx } from './nginx.ts';

/** The application at the end of every chain of this kind, on the core of the load. */
export async function startApplication(stage: Stage, kind: Kind): Promise<ChildProcess> {
  if (kind === 'http') return startNginx(stage);
  const { app } = stage.addresses;
  const port = stage.appPorts[kind];
  const child = stage.start('load', [loadProgram(), 'serve', '-kind', kind, '-address', `${app}:${port}`]);
  await stage.listening(app, port, child);
  return child;
}
