/** File names as they are printed. */
import { statSync } from 'node:fs';
import path from 'node:path';
import { WeftError } from '@weft/base';

/** Relative to where the reader is, where that is shorter. */
export function shorter(file: string): string {
  const relative = path.relative(process.cwd(), file);
  return relative.startsWith('..') && relative.length > file.length ? file : relative;
}

/**
 * Where a file of ours is written for a running mesh. `files`: what `weft up -f` was given. Throws where none of them is a
 * folder and `given` does not say a file.
 */
export function watchedFile(files: readonly string[], name: string, given: string | undefined): string {
  if (given !== undefined) return path.resolve(given);
  const folder = files.find((f) => statSync(f, { throwIfNoEntry: false })?.isDirectory());
  if (folder) return path.join(folder, name);
  throw new WeftError(
    'no-folder',
    `the mesh was started with single files (${files.join(', ')}): say --file with one of a folder that it watches`,
  );
}
