/** How the supervisor writes faults into files and takes them out again: what `weft fault` sends it, carried out. */
import { WeftError } from '@weft/base';
import { addFault, type EditTarget, type FaultEdit, faultFile, hasFaults, removeFault } from '@weft/config';
import type { FaultText } from '@weft/host';

export interface FaultWrite {
  readonly target: EditTarget;
  /** By which a VirtualService of our own names the service; undefined: `target` is somebody's. */
  readonly host: string | undefined;
  readonly edit: FaultEdit;
}

export const faultText: FaultText = {
  add(text, what) {
    const { target, host, edit } = what as FaultWrite;
    if (text !== undefined) return addFault(text, target, edit);
    if (host === undefined) throw new WeftError('fault', `the file of ${target.kind} ${target.name} is gone`);
    return faultFile(target, host, edit);
  },
  remove: removeFault,
  has: hasFaults,
};
