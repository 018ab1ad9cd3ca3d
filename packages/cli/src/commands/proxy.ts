import type { Command } from 'commander';
import { addProxyOf } from '../proxy-command.ts';

/** `weft proxy`, from its sources. */
export function addProxy(program: Command): void {
  addProxyOf(program, () => import('@weft/proxy'));
}
