/** Blocks of one size that serve again and again, so that bodies leave no garbage behind: that is paid for in collections. */

export const BLOCK_BYTES = 64 * 1024;
/** Blocks kept for the whole process; more of them are let go. */
const KEPT = 64;

const kept: Buffer[] = [];

export function takeBlock(): Buffer {
  return kept.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
}

/** Nobody may look at `block` any more. */
export function giveBlock(block: Buffer): void {
  if (kept.length < KEPT) kept.push(block);
}
