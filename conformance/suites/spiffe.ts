/** The SPIFFE Workload API, asked by go-spiffe and by Python's spiffe as workloads of a real mesh. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isRoot } from '../../test/harness.ts';
import { AppMesh } from '../apps.ts';
import { goBuild, pythonPackages } from '../install.ts';
import { type Suite, Tally } from '../suite.ts';

const SOURCES = join(import.meta.dirname, '../spiffe');
const PYTHON = ['spiffe==0.3.2'];
const idOf = (name: string): string => `spiffe://cluster.local/ns/apps/sa/${name}`;

export const suite: Suite = {
  name: 'spiffe',
  about: 'the SPIFFE Workload API: go-spiffe and a Python client get certificates, bundles and tokens',
  inShortForm: false,
  unavailable: () => (process.platform === 'linux' ? undefined : 'needs Linux: who calls is asked of the kernel'),
  async install() {
    goBuild(join(SOURCES, 'go'), 'spiffe');
    pythonPackages('spiffe', PYTHON);
  },
  async run(ctx) {
    const tally = new Tally();
    const apps = new AppMesh(ctx);
    const probe = apps.program(goBuild(join(SOURCES, 'go'), 'spiffe'), 'spiffe');
    const script = apps.program(join(SOURCES, 'client.py'), 'client.py');
    apps.runner('cart');
    apps.runner('other');
    await apps.start();
    const go = (mode: string, from = 'cart', env: Record<string, string> = {}) =>
      apps.must(from, [probe, mode], { timeoutMs: 110_000, env });
    const same = (found: string, wanted: string): void => {
      if (found.trim() !== wanted) throw new Error(`${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
    };

    await tally.check('go-spiffe: certificate', async () => same(await go('x509'), idOf('cart')));
    await tally.check('go-spiffe: another workload is another', async () =>
      same(await go('x509', 'other'), idOf('other')),
    );
    await tally.check('go-spiffe: bundles', async () => same(await go('bundles'), 'cluster.local 1 1'));
    await tally.check('go-spiffe: token', async () => same(await go('jwt'), idOf('cart')));
    await tally.check('go-spiffe: mutual TLS', async () => same(await go('mtls'), idOf('cart')));
    await tally.check('go-spiffe: a new root, key and certificate reach who watches', async () => {
      const given = () => apps.metric('cart', 'weft_events_total', { event: 'workload_api_x509_svids' });
      const before = await given();
      const watching = go('watch');
      let ended = false;
      watching.catch(() => {}).finally(() => (ended = true));
      // It has its first certificate before the root is replaced.
      while (!ended && (await given()) === before) await new Promise((resolve) => setTimeout(resolve, 50));
      apps.mesh.weft('ca', 'rotate');
      await watching;
    });
    await tally.check('Python: certificate, bundles, token', async () => {
      const lib = join(pythonPackages('spiffe', PYTHON), '../lib');
      // -S: without the system's own packages, which may not go with these.
      const env = { PYTHONPATH: join(lib, readdirSync(lib)[0] as string, 'site-packages') };
      same(await apps.must('other', ['python3', '-S', script], { env }), idOf('other'));
    });
    if (isRoot) {
      const elsewhere = { SPIFFE_ENDPOINT_SOCKET: `unix:///run/weft/${apps.mesh.name}.other-0+api/spiffe.sock` };
      await tally.check(
        "go-spiffe: another workload's socket",
        async () => void (await go('denied', 'cart', elsewhere)),
      );
    } else tally.notes.push('one user runs all workloads here, so that nothing keeps them from one another’s sockets');
    await tally.check('no key and no token is in a log or on a page', async () => {
      for (const name of ['cart', 'other']) {
        // Where the kernel captures, the admin port is the workload's own loopback.
        const at = isRoot ? '127.0.0.1' : apps.address(name);
        const fetchAll = `for (const p of ['/config_dump', '/certs', '/limits', '/listeners']) console.log(await (await fetch('http://${at}:15000' + p)).text())`;
        const env = { NODE_USE_ENV_PROXY: '0' };
        const pages = await apps.must(name, ['node', '--input-type=module', '-e', fetchAll], { env });
        if (!pages.includes('spiffe://')) throw new Error(`the pages of ${name} were not seen`);
        for (const text of [apps.mesh.logs(name), apps.mesh.logs(name, true), apps.mesh.output, pages])
          if (/PRIVATE KEY|MIGHAgEA|eyJhbGci/.test(text)) throw new Error(`something secret of ${name} is shown`);
      }
    });
    return tally;
  },
};
