/** What `weft ps`, `scale`, `run` and the others ask of the supervisor, by its local API. */
import type { FaultRequest } from './faults.ts';
import type { RunRequest } from './joined.ts';
import type { LocalHandler } from './local-api.ts';
import type { MeshHost } from './supervisor.ts';

/** `down`: the mesh is asked to go. */
export function hostRoutes(host: MeshHost, down: () => void): Map<string, LocalHandler> {
  const field = (body: unknown, name: string) => (body as Record<string, unknown> | undefined)?.[name];
  return new Map<string, LocalHandler>([
    ['GET /ps', () => host.overview()],
    ['POST /scale', (b) => host.scale(String(field(b, 'name')), Number(field(b, 'n')))],
    ['POST /restart', (b) => host.restart(String(field(b, 'name')))],
    ['POST /leave', (b) => host.leave(String(field(b, 'name')))],
    ['POST /join', (b) => host.join(String(field(b, 'name')))],
    [
      'POST /proxy-canary',
      (b) => {
        const program = field(b, 'program');
        const dir = typeof program === 'string' ? program : undefined;
        const maxEnds = field(b, 'maxEnds');
        return host.proxyCanary(
          String(field(b, 'name')),
          dir,
          Number(field(b, 'percent')),
          maxEnds === undefined ? undefined : Number(maxEnds),
        );
      },
    ],
    ['POST /proxy-promote', (b) => host.proxyPromote(String(field(b, 'name')))],
    ['POST /proxy-revert', (b) => host.proxyRevert(String(field(b, 'name')))],
    ['GET /proxy-canaries', () => host.proxyCanaries()],
    ['GET /faults', () => host.faults.list()],
    ['POST /fault', (b) => host.faults.add(b as FaultRequest)],
    ['POST /fault-remove', (b) => host.faults.remove(String(field(b, 'id')))],
    ['POST /run', (b, _q, gone) => host.run(b as RunRequest, gone)],
    ['GET /hold', (_b, q, gone) => host.hold(q.get('name') ?? '', gone)],
    ['POST /remove', (b) => host.remove(String(field(b, 'name')))],
    ['GET /logs', (_b, q) => host.logs(q.get('name') ?? '', Number(q.get('lines') ?? 100), q.get('proxy') === '1')],
    [
      'POST /down',
      () => {
        setImmediate(down);
        return { stopping: true };
      },
    ],
  ]);
}
