/** gRPC's own interop client and server (grpc-go), each behind its sidecar. */
import { isRoot } from '../../test/harness.ts';
import { AppMesh } from '../apps.ts';
import { goProgram } from '../install.ts';
import { type Suite, Tally } from '../suite.ts';

const MODULE = 'google.golang.org/grpc/interop';
const VERSION = 'v1.85.0';
const PORT = 10_007;

/** Every case of the client that asks for no Google credentials. */
const CASES = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'timeout_on_sleeping_server',
  'cancel_after_begin',
  'cancel_after_first_response',
  'status_code_and_message',
  'special_status_message',
  'custom_metadata',
  'unimplemented_method',
  'unimplemented_service',
];

export const suite: Suite = {
  name: 'grpc-interop',
  about: 'gRPC interop client and server of grpc-go through two sidecars',
  inShortForm: false,
  async install() {
    goProgram(`${MODULE}/client`, VERSION, 'client');
    goProgram(`${MODULE}/server`, VERSION, 'server');
  },
  async run(ctx) {
    const tally = new Tally();
    const apps = new AppMesh(ctx);
    const client = apps.program(goProgram(`${MODULE}/client`, VERSION, 'client'), 'client');
    const server = apps.program(goProgram(`${MODULE}/server`, VERSION, 'server'), 'server');
    // The server listens on every address of its machine: one copy where workloads share the host's network.
    const replicas = isRoot ? 2 : 1;
    apps.add({
      name: 'interop',
      command: [server, '-port', String(PORT)],
      ports: [{ port: PORT, name: 'grpc' }],
      replicas,
    });
    apps.runner('caller');
    await apps.start();
    // Without capture by the kernel the client is told its proxy by the variable that grpc-go reads.
    const prefix = isRoot ? [] : ['sh', '-c', 'HTTPS_PROXY=$HTTP_PROXY exec "$0" "$@"'];
    const call = (testCase: string, ...more: string[]): Promise<string> =>
      apps.must(
        'caller',
        [...prefix, client, '-server_host', 'interop', '-server_port', String(PORT), '-test_case', testCase, ...more],
        { timeoutMs: 165_000 },
      );

    for (const name of CASES) await tally.check(name, () => call(name).then(() => {}));
    // Half a megabyte each.
    const rounds = ctx.short ? 200 : 1000;
    const soak = async (): Promise<void> => {
      const before = await served();
      await call(
        'rpc_soak',
        '-soak_iterations',
        String(rounds),
        '-soak_max_failures',
        '0',
        '-soak_overall_timeout_seconds',
        '160',
        '-soak_min_time_ms_between_rpcs',
        '1',
        '-soak_num_threads',
        '4',
      );
      if (replicas === 1) return;
      const after = await served();
      const each = after.map((n, i) => n - (before[i] ?? 0));
      const total = each.reduce((a, b) => a + b, 0);
      // One connection of the client; were it not balanced request by request, one copy would have it all.
      if (total < rounds || Math.min(...each) < total / 4) throw new Error(`the copies served ${each.join(' and ')}`);
    };
    await tally.check('rpc_soak', soak, 180_000);
    if (replicas === 1) tally.notes.push('balance of one connection over two copies: needs network namespaces');
    return tally;

    async function served(): Promise<number[]> {
      const all: number[] = [];
      for (let i = 0; i < replicas; i++)
        all.push(await apps.metric(`interop-${i}`, 'istio_requests_total', { reporter: 'destination' }));
      return all;
    }
  },
};
