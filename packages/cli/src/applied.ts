import { askControl } from './common.ts';

/** How far the files' last state has come. A proxy that is away hears of a policy when it is back, and keeps the one before until then. */
export async function applied(mesh: string): Promise<{ epoch: number; synced: boolean; refused: string }> {
  const { epoch, refused, problems } = await askControl<{
    epoch: number;
    refused: boolean;
    problems: { severity: string; file: string; line: number; message: string }[];
  }>(mesh, 'GET', '/v1/problems');
  const { proxies } = await askControl<{ proxies: { status: string }[] }>(mesh, 'GET', '/v1/status');
  const error = problems.find((p) => p.severity === 'error');
  const why = error ? `${error.file}:${error.line}: ${error.message}` : 'see weft proxy-status';
  const synced = proxies.every((p) => p.status === 'SYNCED' || p.status === 'DISCONNECTED');
  return { epoch, synced, refused: refused ? why : '' };
}
