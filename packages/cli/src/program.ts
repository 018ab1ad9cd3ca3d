/** The command tree. Each command is a file of its own; the long-running ones load their package when called. */
import { Command } from 'commander';
import { addControlPlane } from './commands/control-plane.ts';
import { addDemo } from './commands/demo.ts';
import { addDown } from './commands/down.ts';
import { addLogs } from './commands/logs.ts';
import { addProxy } from './commands/proxy.ts';
import { addProxyConfig } from './commands/proxy-config.ts';
import { addProxyStatus } from './commands/proxy-status.ts';
import { addPs } from './commands/ps.ts';
import { addRestart } from './commands/restart.ts';
import { addRun } from './commands/run.ts';
import { addScale } from './commands/scale.ts';
import { addUp } from './commands/up.ts';
import { addValidate } from './commands/validate.ts';

export function buildProgram(): Command {
  const program = new Command('weft')
    .description('A service mesh: ordinary Kubernetes and Istio files, on a laptop, on hosts, on Kubernetes.')
    .version('0.1.0')
    .exitOverride()
    .showHelpAfterError('(add --help for the options)')
    .configureHelp({ helpWidth: 100 });
  for (const add of [
    addUp,
    addDemo,
    addDown,
    addPs,
    addLogs,
    addScale,
    addRestart,
    addRun,
    addValidate,
    addProxyStatus,
    addProxyConfig,
    addProxy,
    addControlPlane,
  ]) {
    add(program);
  }
  return program;
}
