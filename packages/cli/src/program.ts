/** The command tree. Each command is a file of its own; the long-running ones load their package when called. */
import type { Command } from 'commander';
import { rootCommand } from './root-command.ts';

/** In the order of the help. */
const commands = new Map<string, () => Promise<(program: Command) => void>>([
  ['up', async () => (await import('./commands/up.ts')).addUp],
  ['demo', async () => (await import('./commands/demo.ts')).addDemo],
  ['down', async () => (await import('./commands/down.ts')).addDown],
  ['ps', async () => (await import('./commands/ps.ts')).addPs],
  ['logs', async () => (await import('./commands/logs.ts')).addLogs],
  ['scale', async () => (await import('./commands/scale.ts')).addScale],
  ['restart', async () => (await import('./commands/restart.ts')).addRestart],
  ['proxy-canary', async () => (await import('./commands/proxy-canary.ts')).addProxyCanary],
  ['leave', async () => (await import('./commands/leave.ts')).addLeave],
  ['join', async () => (await import('./commands/leave.ts')).addJoin],
  ['run', async () => (await import('./commands/run.ts')).addRun],
  ['host', async () => (await import('./commands/host.ts')).addHost],
  ['explain', async () => (await import('./commands/explain.ts')).addExplain],
  ['fault', async () => (await import('./commands/fault.ts')).addFaultCommands],
  ['test', async () => (await import('./commands/test.ts')).addTest],
  ['diff', async () => (await import('./commands/diff.ts')).addDiff],
  ['validate', async () => (await import('./commands/validate.ts')).addValidate],
  ['analyze', async () => (await import('./commands/analyze.ts')).addAnalyze],
  ['authz', async () => (await import('./commands/authz.ts')).addAuthz],
  ['audit', async () => (await import('./commands/audit.ts')).addAudit],
  ['proxy-status', async () => (await import('./commands/proxy-status.ts')).addProxyStatus],
  ['proxy-config', async () => (await import('./commands/proxy-config.ts')).addProxyConfig],
  ['ca', async () => (await import('./commands/ca.ts')).addCa],
  ['mtls', async () => (await import('./commands/mtls.ts')).addMtls],
  ['netpol', async () => (await import('./commands/netpol.ts')).addNetpol],
  ['proxy', async () => (await import('./commands/proxy.ts')).addProxy],
  ['control-plane', async () => (await import('./commands/control-plane.ts')).addControlPlane],
]);

/** The program with the one command that `name` is, so that a proxy does not load what the others need; else with all. */
export async function buildProgram(name?: string): Promise<Command> {
  const program = rootCommand();
  const one = name === undefined ? undefined : commands.get(name);
  for (const load of one ? [one] : commands.values()) (await load())(program);
  return program;
}
