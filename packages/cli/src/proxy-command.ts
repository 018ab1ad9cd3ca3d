import { flushCompileCache } from 'node:module';
import { WeftError } from '@weft/base';
import { type Command, Option } from 'commander';
import { example } from './example.ts';

/** `weft proxy`: the data plane's process. `load`: its code, where it is needed. */
export function addProxyOf(program: Command, load: () => Promise<Pick<typeof import('@weft/proxy'), 'main'>>): void {
  example(
    program
      .command('proxy')
      .description('run a proxy; WEFT_BOOTSTRAP names its bootstrap file ("weft up" starts these)')
      .addOption(
        new Option('--mode <mode>', 'what it serves')
          .choices(['sidecar', 'gateway', 'plain', 'entrance'])
          .default('sidecar'),
      )
      .action(async ({ mode }: { mode: 'sidecar' | 'gateway' | 'plain' | 'entrance' }) => {
        if (!process.env.WEFT_BOOTSTRAP)
          throw new WeftError(
            'bootstrap',
            'WEFT_BOOTSTRAP is not set: it names the JSON file that tells the proxy who it is',
          );
        const { main } = await load();
        flushCompileCache(); // For the next one, also where this one gives its rights up or is killed.
        try {
          await main(mode);
        } catch (error) {
          // What it has opened by then would keep a proxy alive that serves nothing; the reason is printed first.
          setImmediate(() => process.exit(1));
          throw error;
        }
      }),
    'WEFT_BOOTSTRAP=/run/weft/shop.cart-0/bootstrap.json weft proxy --mode sidecar',
    'WEFT_BOOTSTRAP=/run/weft/shop.ingress-0/bootstrap.json weft proxy --mode gateway',
  );
}
