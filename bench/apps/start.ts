import type { ChildProcess } from 'node:child_process';
import type { Kind, Stage } from '../stage.ts';
import { startNginx } from './nginx.ts';

/** The application at the end of every chain of this kind. */
export function startApplication(stage: Stage, kind: Kind): Promise<ChildProcess> {
  if (kind === 'http') return startNginx(stage);
  throw new Error(`no application for ${kind}`);
}
