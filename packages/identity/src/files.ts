/** Secret files: written whole or not at all, and readable by their owner alone. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { WeftError } from '@weft/base';

/** Writes beside the target and renames over it, so that a reader or a crash sees the old or the new text, never half. */
export function writeFileAtomic(path: string, text: string, mode: number): void {
  const temporary = `${path}.tmp`;
  rmSync(temporary, { force: true });
  const fd = openSync(temporary, 'wx', mode);
  try {
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  const dir = openSync(dirname(path), 'r');
  try {
    fsyncSync(dir);
  } finally {
    closeSync(dir);
  }
}

/** Adds to a file. It survives the end of the process; `durable`: that of the machine's power too, which takes milliseconds. */
export function appendFile(path: string, text: string, mode: number, durable: boolean): void {
  const fd = openSync(path, 'a', mode);
  try {
    writeFileSync(fd, text);
    if (durable) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Makes a folder that only its owner may enter; refuses one that others can. */
export function privateFolder(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  refuseIfShared(dir, 'folder', '0700');
}

/** Refuses a secret that group or others may read or change. */
export function refuseIfShared(path: string, what: string, want: string): void {
  const mode = statSync(path).mode & 0o777;
  if ((mode & 0o077) !== 0) {
    throw new WeftError(
      'identity/exposed-secret',
      `${what} ${path} has mode 0${mode.toString(8)}, so that others may read it: run "chmod ${want} ${path}", and replace its key if it may have been read`,
    );
  }
}
