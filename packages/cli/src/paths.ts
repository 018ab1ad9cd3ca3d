/** File names as they are printed. */
import path from 'node:path';

/** Relative to where the reader is, where that is shorter. */
export function shorter(file: string): string {
  const relative = path.relative(process.cwd(), file);
  return relative.startsWith('..') && relative.length > file.length ? file : relative;
}
