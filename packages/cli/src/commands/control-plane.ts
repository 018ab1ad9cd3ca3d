import { flushCompileCache } from 'node:module';
import { WeftError } from '@weft/base';
import type { Command } from 'commander';
import { example } from '../example.ts';

/** `weft control-plane`: its process. */
export function addControlPlane(program: Command): void {
  example(
    program
      .command('control-plane')
      .description('run the control plane; WEFT_CONTROL names its configuration ("weft up" starts it)')
      .action(async () => {
        if (!process.env.WEFT_CONTROL)
          throw new WeftError(
            'control',
            'WEFT_CONTROL is not set: it names the JSON file that tells the control plane what it serves',
          );
        const { main } = await import('@weft/control');
        flushCompileCache(); // For the next one, also where this one gives its rights up or is killed.
        await main();
      }),
    'WEFT_CONTROL=/etc/weft/control.json weft control-plane',
  );
}
