/** `weft leave` and `weft join`: processes out of the mesh under load, and back. */
import { WeftError } from '@weft/base';
import { type CaptureMode, type InstanceStatus, LEFT } from '@weft/host';
import type { Command } from 'commander';
import {
  ask,
  askControl,
  chooseMesh,
  instancesNamed,
  type MeshOption,
  meshOption,
  type NamespaceOption,
  namespaceOption,
  print,
} from '../common.ts';
import { example } from '../example.ts';
import { calleesFirst, type JudgedCall, keyOf, losesIdentity, type Member, obstacles } from '../mtls/leave.ts';
import { askState } from './mtls.ts';
import { statusTable } from './up.ts';

const DEADLINE_MS = 600_000;

type Arguments = MeshOption & NamespaceOption & { all?: boolean; force?: boolean };

export function addLeave(program: Command): void {
  example(
    program
      .command('leave')
      .description(
        "take processes out of the mesh, one instance after the other, each ready without a proxy and without rules before the old one drains. With --capture explicit, where applications find each other by their proxies, what takes the proxy's place only passes on, in plaintext, to applications directly: no policy of theirs holds for who left. A gateway is nothing but a proxy and cannot leave either",
      )
      .argument('[name]')
      .option('--all', 'every process (of the namespace)')
      .option('--force', 'also where STRICT or a policy would refuse them, or STRICT would hold no more')
      .addOption(namespaceOption())
      .addOption(meshOption())
      .action(leave),
    'weft leave cart',
    'weft leave --all -n shop',
  );
}

export function addJoin(program: Command): void {
  example(
    program
      .command('join')
      .description(
        'bring processes back that left the mesh (weft leave), one instance after the other, each ready before the old one drains',
      )
      .argument('[name]')
      .option('--all', 'every process that left (of the namespace)')
      .addOption(namespaceOption())
      .addOption(meshOption())
      .action(join),
    'weft join cart',
    'weft join --all',
  );
}

interface Chosen {
  mesh: string;
  capture: CaptureMode;
  members: Member[];
}

/** The workloads that are meant; with --all those that `fits`. */
async function choose(name: string | undefined, o: Arguments, fits: (i: InstanceStatus) => boolean): Promise<Chosen> {
  if ((name === undefined) !== (o.all === true)) throw new WeftError('usage', 'say a process, or --all');
  const mesh = chooseMesh(o.mesh);
  const { instances, capture } = await ask<{ instances: InstanceStatus[]; capture: CaptureMode }>(mesh, 'GET', '/ps');
  const meant =
    name === undefined
      ? instances.filter((i) => fits(i) && (o.namespace === undefined || i.namespace === o.namespace))
      : instancesNamed(mesh, instances, name, o.namespace);
  const registered = await askControl<{ instances: (Member & { name: string })[] }>(mesh, 'GET', '/v1/instances');
  const members = new Map<string, Member>();
  for (const i of meant) {
    const known = registered.instances.find((r) => r.name === i.name);
    const { namespace, workload } = i;
    members.set(keyOf(i), { namespace, workload, serviceAccount: known?.serviceAccount ?? 'default' });
  }
  return { mesh, capture, members: [...members.values()] };
}

async function leave(name: string | undefined, o: Arguments): Promise<void> {
  const { mesh, capture, members } = await choose(name, o, (i) => i.injected && !i.gateway);
  const state = await askState(mesh, 0);
  const { calls } = await askControl<{ calls: JudgedCall[] }>(mesh, 'GET', '/v1/calls?since=0');
  const found = [...obstacles(members, state, capture), ...losesIdentity(members, calls)];
  for (const line of found) print(line);
  if (found.length > 0 && !o.force)
    throw new WeftError('strict', 'nothing was changed: change these policies first, or say --force');
  await each(mesh, '/leave', calleesFirst(members, state));
}

async function join(name: string | undefined, o: Arguments): Promise<void> {
  const { mesh, members } = await choose(name, o, (i) => i.injectedReason === LEFT);
  // The other way round: callers have their proxies before who they call is replaced.
  await each(mesh, '/join', calleesFirst(members, await askState(mesh, 0)).reverse());
}

async function each(mesh: string, path: string, members: readonly Member[]): Promise<void> {
  if (members.length === 0) print(path === '/leave' ? 'no process has a proxy' : 'no process has left');
  const rows: InstanceStatus[] = [];
  for (const m of members)
    rows.push(...(await ask<InstanceStatus[]>(mesh, 'POST', path, { name: keyOf(m) }, DEADLINE_MS)));
  if (rows.length > 0) print(statusTable(rows));
}
